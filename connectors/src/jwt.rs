//! RSA signatures and the tokens (JWT) that are made with them, by which a program shows an API
//! that it has a private key.

use crate::config::secret::{CredentialError, Secret};
use crate::encrypted_pem;
use crate::http_client::base64;
use crate::rsa_generation::{self, element};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

/// A private RSA key. It cannot be printed.
pub(crate) struct RsaKey(RsaKeyPair);

/// The hash of a signature.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum RsaHash {
    /// `RS256` in tokens.
    Sha256,
    /// `RS384` in tokens.
    Sha384,
    /// `RS512` in tokens.
    Sha512,
}

impl RsaHash {
    fn encoding(self) -> &'static dyn RsaEncoding {
        match self {
            RsaHash::Sha256 => &RSA_PKCS1_SHA256,
            RsaHash::Sha384 => &RSA_PKCS1_SHA384,
            RsaHash::Sha512 => &RSA_PKCS1_SHA512,
        }
    }

    fn name(self) -> &'static str {
        match self {
            RsaHash::Sha256 => "RS256",
            RsaHash::Sha384 => "RS384",
            RsaHash::Sha512 => "RS512",
        }
    }
}

impl RsaKey {
    /// A new key of 2048 bits. It takes up to a second of computing.
    pub(crate) fn generate() -> Result<RsaKey, CredentialError> {
        let pair = RsaKeyPair::from_der(&rsa_generation::private_key()?);
        pair.map(RsaKey).map_err(|e| CredentialError::Key(format!("is not usable: {e}")))
    }

    /// The public part, as DER of a `SubjectPublicKeyInfo`.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        // The object identifier of RSA, and its parameters: none.
        const ALGORITHM: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        // No bits of the last byte are unused.
        let bits = [&[0], self.0.public().as_ref()].concat();
        element(0x30, &[ALGORITHM, &element(3, &bits)].concat())
    }

    /// Reads a key in PEM that may have a passphrase, in OpenSSL's traditional form.
    pub(crate) fn from_encrypted_pem(pem: &str, passphrase: &Secret) -> Result<RsaKey, CredentialError> {
        if !encrypted_pem::is_encrypted(pem) {
            return RsaKey::from_pem(pem);
        }
        let der = encrypted_pem::decrypted(pem, passphrase)?;
        let pair = RsaKeyPair::from_der(&der);
        pair.map(RsaKey).map_err(|e| CredentialError::Key(format!("is not usable: {e}")))
    }

    /// Reads a key in PEM, of PKCS #1 or #8. Keys with a passphrase are refused.
    pub(crate) fn from_pem(pem: &str) -> Result<RsaKey, CredentialError> {
        let malformed = |form| CredentialError::Malformed { what: "the private key".to_owned(), form };
        if pem.contains("ENCRYPTED") {
            let text = "keys with a passphrase are not supported by this build";
            return Err(CredentialError::Unsupported(text.to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| malformed("in PEM"))?;
        let pair = match &key {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(malformed("an RSA key")),
        };
        pair.map(RsaKey).map_err(|e| CredentialError::Key(format!("is not usable: {e}")))
    }

    /// The signature of a message.
    pub(crate) fn sign(&self, hash: RsaHash, message: &[u8]) -> Result<Vec<u8>, CredentialError> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        let signed = self.0.sign(hash.encoding(), &SystemRandom::new(), message, &mut signature);
        signed.map_err(|_| CredentialError::Key("cannot sign".to_owned()))?;
        Ok(signature)
    }

    /// A token with these claims; `kid` names the key.
    pub(crate) fn token(&self, hash: RsaHash, kid: &str, claims: &Value) -> Result<String, CredentialError> {
        let names = if kid.is_empty() { serde_json::json!({}) } else { serde_json::json!({"kid": kid}) };
        self.token_with(hash, names, claims)
    }

    /// The same with what names the key; `names` is an object.
    pub(crate) fn token_with(
        &self,
        hash: RsaHash,
        names: Value,
        claims: &Value,
    ) -> Result<String, CredentialError> {
        let mut header = serde_json::json!({"alg": hash.name(), "typ": "JWT"});
        for (name, value) in names.as_object().into_iter().flatten() {
            header[name] = value.clone();
        }
        let text = format!(
            "{}.{}",
            base64_url(header.to_string().as_bytes()),
            base64_url(claims.to_string().as_bytes())
        );
        let signature = self.sign(hash, text.as_bytes())?;
        Ok(format!("{text}.{}", base64_url(&signature)))
    }
}

/// A random UUID.
pub(crate) fn random_id() -> Result<String, CredentialError> {
    let mut bytes = [0; 16];
    let unavailable = || CredentialError::Unsupported("the system gives no random numbers".to_owned());
    SystemRandom::new().fill(&mut bytes).map_err(|_| unavailable())?;
    // The version (4) and the variant have fixed bits.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]))
}

/// Base64 for URLs, without padding.
pub(crate) fn base64_url(bytes: &[u8]) -> String {
    base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// The bytes of a text in base64, also in the form for URLs; `None` if it is not one. Line breaks
/// and padding may be anywhere: files are often wrapped.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    base64_digits(text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'='))
}

/// The bytes that digits of base64 stand for, also of the form for URLs; `None` if one is no digit.
pub(crate) fn base64_digits(digits: impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(digits.size_hint().1.unwrap_or(0) / 4 * 3);
    let mut word = 0u32;
    let mut bits = 0;
    for byte in digits {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits & 255) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A key that was made for these tests.
    pub(crate) const PEM: &str = include_str!("../tests/data/discovery/test-key.pem");

    #[test]
    fn tokens_have_three_parts_and_a_good_signature() {
        let key = RsaKey::from_pem(PEM).unwrap();
        let token = key.token(RsaHash::Sha256, "k1", &serde_json::json!({"iss": "me"})).unwrap();
        let (text, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(text, "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImsxIn0.eyJpc3MiOiJtZSJ9");
        let signed = key.sign(RsaHash::Sha256, text.as_bytes()).unwrap();
        assert_eq!(signature, base64_url(&signed));
        assert!(verifies(&key.public_key(), text.as_bytes(), &signed));
        assert_eq!(key.sign(RsaHash::Sha512, b"x").unwrap().len(), 256);
        assert!(
            RsaKey::from_pem("no").is_err()
                && RsaKey::from_pem("-----BEGIN ENCRYPTED PRIVATE KEY-----").is_err()
        );
    }
    /// Whether a signature (SHA-256) is good; the key is DER of a `SubjectPublicKeyInfo` of 2048
    /// bits.
    pub(crate) fn verifies(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        // Before the key itself: the algorithm, and the head of the bits.
        let key = &public_key[24..];
        let algorithm = &ring::signature::RSA_PKCS1_2048_8192_SHA256;
        ring::signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }

    #[test]
    fn a_key_that_was_made_signs() {
        let key = RsaKey::generate().unwrap();
        let signature = key.sign(RsaHash::Sha256, b"text").unwrap();
        let public = key.public_key();
        assert_eq!(public.len(), 294);
        assert!(verifies(&public, b"text", &signature) && !verifies(&public, b"test", &signature));
        assert_ne!(RsaKey::generate().unwrap().public_key(), public);
    }

    #[test]
    fn base64_is_read() {
        for (text, bytes) in
            [("Zm9v", "foo"), ("Zm9vYg==", "foob"), (" Zm 9\nv", "foo"), ("Zg", "f"), ("", "")]
        {
            assert_eq!(from_base64(text).unwrap(), bytes.as_bytes(), "{text:?}");
        }
        assert_eq!(from_base64("-_+/").unwrap(), from_base64("+/-_").unwrap());
        assert!(from_base64("Zm9v!").is_none());
    }
}
