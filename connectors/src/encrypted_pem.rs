//! Private keys with a passphrase, in the form that OpenSSL calls traditional: headers `Proc-Type`
//! and `DEK-Info` in the PEM, AES in CBC mode, and a key that MD5 makes of the passphrase. It is
//! the only form that Oracle's library for Go reads.

use crate::config::secret::{CredentialError, Secret};
use aes::cipher::{Array, BlockModeDecrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use cbc::Decryptor;
use md5::{Digest, Md5};
use rustls::pki_types::PrivatePkcs1KeyDer;
use rustls::pki_types::pem::PemObject;

/// Whether a PEM is a key of this form.
pub(crate) fn is_encrypted(pem: &str) -> bool {
    pem.contains("Proc-Type: 4,ENCRYPTED")
}

/// The key, as DER of PKCS #1.
///
/// # Errors
/// The PEM is malformed, its cipher is not known, or the passphrase is wrong.
pub(crate) fn decrypted(pem: &str, passphrase: &Secret) -> Result<Vec<u8>, CredentialError> {
    if passphrase.expose().is_empty() {
        return Err(key_error("is encrypted: a passphrase is required"));
    }
    let info = pem.lines().find_map(|line| line.trim().strip_prefix("DEK-Info: "));
    let (cipher, vector) = info.and_then(|info| info.split_once(',')).ok_or_else(malformed)?;
    let vector = bytes_of_hex(vector).ok_or_else(malformed)?;
    // Without its headers it is an ordinary PEM of bytes.
    let plain: Vec<&str> =
        pem.lines().map(str::trim).filter(|line| !line.contains(": ") && !line.is_empty()).collect();
    let content = PrivatePkcs1KeyDer::from_pem_slice(plain.join("\n").as_bytes()).map_err(|_| malformed())?;
    let mut bytes = content.secret_pkcs1_der().to_vec();
    let passphrase = passphrase.expose().as_bytes();
    match cipher {
        "AES-128-CBC" => decrypt::<Decryptor<Aes128>>(&mut bytes, passphrase, &vector, 16)?,
        "AES-192-CBC" => decrypt::<Decryptor<Aes192>>(&mut bytes, passphrase, &vector, 24)?,
        "AES-256-CBC" => decrypt::<Decryptor<Aes256>>(&mut bytes, passphrase, &vector, 32)?,
        other => {
            let text = format!("keys that are encrypted with {other} are not supported; use AES-256-CBC");
            return Err(CredentialError::Unsupported(text));
        }
    }
    without_padding(bytes)
}

fn key_error(text: &str) -> CredentialError {
    CredentialError::Key(text.to_owned())
}

fn malformed() -> CredentialError {
    CredentialError::Malformed { what: "the private key".to_owned(), form: "in PEM" }
}

/// Decrypts in place.
fn decrypt<D: KeyIvInit + BlockModeDecrypt>(
    bytes: &mut [u8],
    passphrase: &[u8],
    vector: &[u8],
    key_length: usize,
) -> Result<(), CredentialError> {
    let salt = vector.get(..8).ok_or_else(malformed)?;
    let key = key_of(passphrase, salt, key_length);
    let mut decryptor = D::new_from_slices(&key, vector).map_err(|_| malformed())?;
    let (blocks, rest) = Array::slice_as_chunks_mut(bytes);
    if !rest.is_empty() {
        return Err(malformed());
    }
    decryptor.decrypt_blocks(blocks);
    Ok(())
}

/// OpenSSL's `EVP_BytesToKey` with MD5 and one round.
fn key_of(passphrase: &[u8], salt: &[u8], length: usize) -> Vec<u8> {
    let mut key = Vec::new();
    let mut last = Vec::new();
    while key.len() < length {
        let mut hash = Md5::new();
        hash.update(&last);
        hash.update(passphrase);
        hash.update(salt);
        last = hash.finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(length);
    key
}

/// The bytes without the padding, which only the right passphrase makes valid.
fn without_padding(mut bytes: Vec<u8>) -> Result<Vec<u8>, CredentialError> {
    let wrong = || key_error("cannot be decrypted: the passphrase is wrong");
    let padding = usize::from(*bytes.last().ok_or_else(wrong)?);
    let length = bytes.len().checked_sub(padding).ok_or_else(wrong)?;
    let is_valid =
        (1..=16).contains(&padding) && bytes[length..].iter().all(|byte| usize::from(*byte) == padding);
    // A key begins as a list of DER does: one in 256 wrong passphrases has a valid padding.
    if !is_valid || bytes[0] != 0x30 {
        return Err(wrong());
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16);
    let pairs = text.trim().as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::tests::PEM;

    #[test]
    fn keys_of_openssl_are_read_with_their_passphrase() {
        let plain = PrivatePkcs1KeyDer::from_pem_slice(PEM.as_bytes());
        for pem in [
            include_str!("../tests/data/discovery/test-key-aes128.pem"),
            include_str!("../tests/data/discovery/test-key-aes256.pem"),
        ] {
            assert!(is_encrypted(pem));
            let key = decrypted(pem, &Secret::new("open-sesame")).unwrap();
            assert!(ring::signature::RsaKeyPair::from_der(&key).is_ok());
            if let Ok(plain) = &plain {
                assert_eq!(key, plain.secret_pkcs1_der());
            }
            let wrong = decrypted(pem, &Secret::new("other")).unwrap_err().to_string();
            assert_eq!(wrong, "the private key cannot be decrypted: the passphrase is wrong");
            let none = decrypted(pem, &Secret::default()).unwrap_err().to_string();
            assert_eq!(none, "the private key is encrypted: a passphrase is required");
            let other = pem.replace("DEK-Info: AES-", "DEK-Info: DES-");
            assert!(decrypted(&other, &Secret::new("x")).unwrap_err().to_string().contains("DES-"));
            let cut = pem.replace("DEK-Info", "Info");
            assert!(decrypted(&cut, &Secret::new("x")).is_err());
        }
        assert!(!is_encrypted(PEM));
    }
}
