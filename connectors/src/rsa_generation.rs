//! Makes private RSA keys: ring signs with them, but makes none. [`crate::jwt::RsaKey`] uses it.
//! The crate `rsa` makes them, but has an advisory that is not settled (RUSTSEC-2023-0071) and
//! brings a second library of large numbers.
//!
//! Primes are random numbers that no small prime divides and that pass the test of Miller and Rabin
//! (FIPS 186-5, A.1.3 and B.3).

use crate::config::secret::CredentialError;
use num_bigint::BigUint;
use ring::rand::{SecureRandom, SystemRandom};

/// The length of a prime, bytes. A key has twice as many: 2048 bits.
const PRIME_BYTES: usize = 128;
/// Rounds of the test of Miller and Rabin: of FIPS 186-5 (table B.1), five are enough.
const ROUNDS: usize = 8;
/// Candidates are divided by the primes below this first, which most do not survive.
const SMALL: u32 = 2_000;
/// The public exponent.
const EXPONENT: u32 = 65_537;
/// DER: the tags of a sequence and of an integer.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// A new key of 2048 bits, as DER of PKCS #1. Takes up to a second of computing.
///
/// # Errors
///
/// If the system gives no random numbers.
pub(crate) fn private_key() -> Result<Vec<u8>, CredentialError> {
    let random = SystemRandom::new();
    let small = small_primes();
    let one = BigUint::from(1u32);
    let exponent = BigUint::from(EXPONENT);
    loop {
        let first = prime(&random, &small)?;
        let second = prime(&random, &small)?;
        let p = (&first).max(&second);
        let q = (&first).min(&second);
        // Primes that are close to each other can be found from the key (FIPS 186-5, A.1.3, 5.4).
        if (p - q).bits() + 100 <= 8 * PRIME_BYTES as u64 {
            continue;
        }
        let p_less = p - &one;
        let q_less = q - &one;
        // There is none if the exponent divides one of them.
        let Some(private) = exponent.modinv(&(&p_less * &q_less)) else { continue };
        let Some(coefficient) = q.modinv(p) else { continue };
        let numbers = [
            BigUint::ZERO,
            p * q,
            exponent,
            private.clone(),
            p.clone(),
            q.clone(),
            &private % p_less,
            private % q_less,
            coefficient,
        ];
        let content: Vec<u8> = numbers.iter().flat_map(integer).collect();
        return Ok(element(SEQUENCE, &content));
    }
}

/// The odd primes below [`SMALL`].
fn small_primes() -> Vec<u32> {
    let mut primes: Vec<u32> = Vec::new();
    for number in (3..SMALL).step_by(2) {
        if primes.iter().all(|prime| !number.is_multiple_of(*prime)) {
            primes.push(number);
        }
    }
    primes
}

fn random_number(random: &SystemRandom) -> Result<BigUint, CredentialError> {
    let mut bytes = [0; PRIME_BYTES];
    let unavailable = || CredentialError::Unsupported("the system gives no random numbers".to_owned());
    random.fill(&mut bytes).map_err(|_| unavailable())?;
    Ok(BigUint::from_bytes_be(&bytes))
}

/// A random prime whose two highest bits are set, so that the product of two has its full length.
fn prime(random: &SystemRandom, small: &[u32]) -> Result<BigUint, CredentialError> {
    let top = 8 * PRIME_BYTES as u64;
    loop {
        let mut candidate = random_number(random)?;
        for bit in [0, top - 2, top - 1] {
            candidate.set_bit(bit, true);
        }
        let is_divided = small.iter().any(|prime| &candidate % *prime == BigUint::ZERO);
        if !is_divided && is_prime(&candidate, random)? {
            return Ok(candidate);
        }
    }
}

/// The test of Miller and Rabin for a large odd number. It errs towards `true`, once in 2^112.
fn is_prime(number: &BigUint, random: &SystemRandom) -> Result<bool, CredentialError> {
    let one = BigUint::from(1u32);
    let two = BigUint::from(2u32);
    let less = number - &one;
    let twos = less.trailing_zeros().unwrap_or(0);
    let odd = &less >> twos;
    for _ in 0..ROUNDS {
        // From 2 to the number less 2.
        let base = random_number(random)? % (number - &two - &one) + &two;
        let mut power = base.modpow(&odd, number);
        if power == one || power == less {
            continue;
        }
        let mut is_witness = true;
        for _ in 1..twos {
            power = power.modpow(&two, number);
            if power == less {
                is_witness = false;
                break;
            }
        }
        if is_witness {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A number in DER, where the highest bit is a sign.
fn integer(number: &BigUint) -> Vec<u8> {
    let mut bytes = number.to_bytes_be();
    if bytes.first().is_some_and(|byte| *byte >= 0x80) {
        bytes.insert(0, 0);
    }
    element(INTEGER, &bytes)
}

/// An element of DER.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let digits = content.len().to_be_bytes();
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(content.len() as u8);
    } else {
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        out.push(0x80 | (digits.len() - zeros) as u8);
        out.extend_from_slice(&digits[zeros..]);
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told_from_other_numbers() {
        let random = SystemRandom::new();
        let is = |text: &str| is_prime(&BigUint::parse_bytes(text.as_bytes(), 10).unwrap(), &random).unwrap();
        // The prime of the curve 25519 and the one before 2^127; their product; Carmichael's
        // numbers, which pass Fermat's test.
        let large = "57896044618658097711785492504343953926634992332820282019728792003956564819949";
        assert!(is(large) && is("170141183460469231731687303715884105727") && is("65537"));
        let product = BigUint::parse_bytes(large.as_bytes(), 10).unwrap()
            * BigUint::parse_bytes(b"170141183460469231731687303715884105727", 10).unwrap();
        assert!(!is(&product.to_string()));
        assert!(["561", "41041", "825265", "321197185", "9746347772161"].iter().all(|number| !is(number)));
        assert_eq!(small_primes()[..5], [3, 5, 7, 11, 13]);
        assert_eq!(small_primes().len(), 302);
    }

    #[test]
    fn elements_have_their_length() {
        assert_eq!(element(INTEGER, &[1]), [2, 1, 1]);
        assert_eq!(element(SEQUENCE, &[0; 0x80])[..3], [0x30, 0x81, 0x80]);
        assert_eq!(element(SEQUENCE, &[0; 0x1234])[..4], [0x30, 0x82, 0x12, 0x34]);
        assert_eq!(integer(&BigUint::from(0x80u32)), [2, 2, 0, 0x80]);
        assert_eq!(integer(&BigUint::ZERO), [2, 1, 0]);
    }
}
