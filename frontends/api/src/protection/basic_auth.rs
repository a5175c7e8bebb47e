//! HTTP basic authentication: checks the user and password of a request against bcrypt hashes.
//!
//! An unknown user costs as much time as a known one, so that names cannot be found out. Right
//! passwords are cached, wrong ones are not, so a stranger cannot push users out of the cache. The
//! cache stores keyed hashes over user, hash and password with their lengths; it never stores a
//! password.

use super::attempts::Attempts;
use super::{PasswordHash, ProtectionError};
use crate::limits::{PASSWORD_CACHE, PASSWORD_WAITING};
use axum::http::HeaderValue;
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::metrics::{MetricHistogram, Metrics};
use tokio::sync::Semaphore;

/// What a request turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its name and password are those of a user.
    Known,
    /// It has no name and password.
    Missing,
    /// Its name or password is wrong.
    Wrong,
    /// Its address has tried too often, or too many others are waiting.
    TooMany(Duration),
}

/// Checks names and passwords.
pub(super) struct BasicAuth {
    /// The key of the hashes.
    key: hmac::Key,
    /// Hashes of combinations that were right, the latest last.
    known: Mutex<VecDeque<[u8; 32]>>,
    /// Wrong attempts by address.
    attempts: Mutex<Attempts>,
    /// Permits to wait for a turn at hashing.
    waiting: Semaphore,
    /// Permits to hash a password, which takes a core for a while.
    hashing: Arc<Semaphore>,
    hash_seconds: Arc<MetricHistogram>,
}

/// The cores that hash passwords at the same time: half of them, so that strangers cannot take all.
fn parallel() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

impl BasicAuth {
    pub(super) fn new(metrics: &Metrics) -> Result<BasicAuth, ProtectionError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(BasicAuth {
            key: key.map_err(|_| ProtectionError::NoRandomNumbers)?,
            known: Mutex::default(),
            attempts: Mutex::default(),
            waiting: Semaphore::new(PASSWORD_WAITING),
            hashing: Arc::new(Semaphore::new(parallel())),
            hash_seconds: metrics.histogram(
                "perennial_http_password_seconds",
                "Time to check a password that was not known to be right.",
                &[],
                &[0.01, 0.1, 0.5, 1.0, 5.0],
            ),
        })
    }

    /// Checks the `Authorization` header of a request from this address.
    pub(super) async fn check(
        &self,
        users: &BTreeMap<String, PasswordHash>,
        given: Option<&HeaderValue>,
        peer: IpAddr,
    ) -> Verdict {
        let Some((user, password)) = given.and_then(|value| credentials(value.as_bytes())) else {
            return Verdict::Missing;
        };
        self.check_password(users, user, password, peer).await
    }

    /// Checks a name and a password that came from this address.
    pub(super) async fn check_password(
        &self,
        users: &BTreeMap<String, PasswordHash>,
        user: String,
        password: Vec<u8>,
        peer: IpAddr,
    ) -> Verdict {
        let hash = users.get(&user);
        let remembered = hash.map(|hash| self.cache_key(&user, hash, &password));
        if remembered.is_some_and(|key| self.known.lock().contains(&key)) {
            return Verdict::Known;
        }
        let now = Instant::now();
        if let Some(wait) = self.attempts.lock().wait(peer, now) {
            return Verdict::TooMany(wait);
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Verdict::TooMany(Duration::from_secs(1)) };
        self.attempts.lock().count(peer, now);
        let is_user = hash.is_some();
        let Some(compared) = hash.or_else(|| self.stand_in(users, &user)).cloned() else {
            return Verdict::Wrong;
        };
        let is_right = self.compare(compared, password).await;
        match remembered {
            Some(key) if is_user && is_right => {
                self.attempts.lock().forgive(peer);
                self.remember(key);
                Verdict::Known
            }
            _ => Verdict::Wrong,
        }
    }

    /// How long an address has to wait for its next attempt; otherwise one is counted.
    pub(super) fn attempt(&self, peer: IpAddr) -> Option<Duration> {
        let now = Instant::now();
        let mut attempts = self.attempts.lock();
        let wait = attempts.wait(peer, now);
        if wait.is_none() {
            attempts.count(peer, now);
        }
        wait
    }

    /// Takes back an attempt that was right.
    pub(super) fn forgive(&self, peer: IpAddr) {
        self.attempts.lock().forgive(peer);
    }

    /// A secret of this process for a name: the same at each call.
    pub(super) fn secret_of(&self, user: &str) -> [u8; 32] {
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&self.key, user.as_bytes()).as_ref());
        secret
    }

    /// Compares on a thread that may block. A request that goes away does not stop it, and keeps
    /// its turn until then.
    async fn compare(&self, hash: PasswordHash, password: Vec<u8>) -> bool {
        let Ok(turn) = self.hashing.clone().acquire_owned().await else { return false };
        let seconds = self.hash_seconds.clone();
        let compared = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let began = Instant::now();
            let is_right = hash.is_of(&password);
            seconds.observe(began.elapsed().as_secs_f64());
            is_right
        });
        compared.await.unwrap_or(false)
    }

    /// The hash that is compared for a name that no user has: always the same one for this name,
    /// so that names without a user take the times that names with a user take.
    fn stand_in<'a>(
        &self,
        users: &'a BTreeMap<String, PasswordHash>,
        user: &str,
    ) -> Option<&'a PasswordHash> {
        let tag = hmac::sign(&self.key, user.as_bytes());
        let number = tag.as_ref().iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
        users.values().nth(number.checked_rem(users.len())?)
    }

    fn cache_key(&self, user: &str, hash: &PasswordHash, password: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user.as_bytes(), hash.text().as_bytes(), password] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        key
    }

    fn remember(&self, key: [u8; 32]) {
        let mut known = self.known.lock();
        if known.contains(&key) {
            return;
        }
        if known.len() >= PASSWORD_CACHE {
            known.pop_front();
        }
        known.push_back(key);
    }
}

/// The name in a header `Basic …`.
pub(super) fn user_of(header: &HeaderValue) -> Option<String> {
    Some(credentials(header.as_bytes())?.0)
}

/// Name and password of a header `Basic …`.
fn credentials(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, coded) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = base64(coded.trim_ascii())?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = std::str::from_utf8(&decoded[..colon]).ok()?.to_owned();
    Some((user, decoded[colon + 1..].to_vec()))
}

/// Decodes base64 of RFC 4648, with its padding.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut word = 0_u32;
        for digit in group {
            word = word << 6 | u32::from(base64_digit(*digit)?);
        }
        word <<= 6 * (4 - group.len());
        let whole = word.to_be_bytes();
        bytes.extend_from_slice(&whole[1..group.len()]);
    }
    Some(bytes)
}

fn base64_digit(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PASSWORD_ATTEMPTS;

    /// The hash of a password with the lowest cost, that tests are quick.
    fn hashed(password: &str) -> PasswordHash {
        PasswordHash::parse(&bcrypt::hash(password, 4).unwrap()).unwrap()
    }

    fn header(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(coded.as_bytes()).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(base64(b"Zg="), None);
        assert_eq!(base64(b"Z!=="), None);
    }

    #[test]
    fn only_basic_headers_name_somebody() {
        assert_eq!(credentials(b"Basic dTpwOng="), Some(("u".to_owned(), b"p:x".to_vec())));
        assert_eq!(credentials(b"basic dTo="), Some(("u".to_owned(), Vec::new())));
        for other in [&b"Bearer dTpw"[..], b"Basic", b"Basic dQ==", b"Basic ?", b"Basicd dTpw"] {
            assert_eq!(credentials(other), None, "{other:?}");
        }
    }

    #[tokio::test]
    async fn users_are_known_by_their_passwords() {
        let auth = BasicAuth::new(&Metrics::default()).unwrap();
        let users = BTreeMap::from([("u".to_owned(), hashed("p")), ("v".to_owned(), hashed("q"))]);
        // u:p, u:q, v:q, w:p, u:
        for (coded, want) in [
            ("dTpw", Verdict::Known),
            ("dTpx", Verdict::Wrong),
            ("djpx", Verdict::Known),
            ("dzpw", Verdict::Wrong),
            ("dTo=", Verdict::Wrong),
        ] {
            let given = header(&format!("Basic {coded}"));
            assert_eq!(auth.check(&users, Some(&given), PEER).await, want, "{coded}");
        }
        assert_eq!(auth.check(&users, None, PEER).await, Verdict::Missing);
        // Another hash for the same password is another key: a user whose hash changes is asked
        // anew.
        let changed = BTreeMap::from([("u".to_owned(), hashed("other"))]);
        assert_eq!(auth.check(&changed, Some(&header("Basic dTpw")), PEER).await, Verdict::Wrong);
        assert_eq!(auth.check(&BTreeMap::new(), Some(&header("Basic dTpw")), PEER).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_guesser_is_stopped_and_a_user_at_the_same_address_is_not() {
        let auth = BasicAuth::new(&Metrics::default()).unwrap();
        let users = BTreeMap::from([("u".to_owned(), hashed("p"))]);
        let right = header("Basic dTpw");
        assert_eq!(auth.check(&users, Some(&right), PEER).await, Verdict::Known);
        let mut stopped = 0;
        for _ in 0..PASSWORD_ATTEMPTS + 2 {
            match auth.check(&users, Some(&header("Basic dTpx")), PEER).await {
                Verdict::TooMany(_) => stopped += 1,
                verdict => assert_eq!(verdict, Verdict::Wrong),
            }
        }
        assert!(stopped >= 1);
        assert_eq!(auth.check(&users, Some(&right), PEER).await, Verdict::Known, "known already");
        let elsewhere: IpAddr = "192.0.2.9".parse().unwrap();
        assert_eq!(auth.check(&users, Some(&header("Basic dTpx")), elsewhere).await, Verdict::Wrong);
    }

    #[test]
    fn wrong_passwords_push_nobody_out_and_keys_are_unambiguous() {
        let auth = BasicAuth::new(&Metrics::default()).unwrap();
        let hash = hashed("p");
        assert_ne!(auth.cache_key("a", &hash, b"bc"), auth.cache_key("ab", &hash, b"c"));
        for number in 0..PASSWORD_CACHE as u8 {
            auth.remember([number; 32]);
        }
        auth.remember([0; 32]);
        assert!(auth.known.lock().contains(&[0; 32]), "one that is known takes no second place");
        auth.remember([255; 32]);
        assert_eq!(auth.known.lock().len(), PASSWORD_CACHE);
    }

    /// The times are compared by what is computed: a name without a user is compared with a hash.
    #[test]
    fn names_without_a_user_are_compared_as_well() {
        let auth = BasicAuth::new(&Metrics::default()).unwrap();
        let users = BTreeMap::from([("u".to_owned(), hashed("p")), ("v".to_owned(), hashed("q"))]);
        let first = auth.stand_in(&users, "nobody").unwrap();
        assert_eq!(auth.stand_in(&users, "nobody"), Some(first), "always the same time");
        assert!(auth.stand_in(&BTreeMap::new(), "nobody").is_none());
    }
}
