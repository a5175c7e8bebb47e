//! Logins for other protocols than HTTP (the PostgreSQL wire): the users of the web configuration
//! file, with the same limit of attempts.

use super::basic_auth::Verdict;
use super::{Protection, ScramVerifier};
use crate::confinement::Confinement;
use rustls::ServerConfig;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What an attempt to log in turned out to be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// It is that user.
    Known,
    /// The name or the password is wrong.
    Wrong,
    /// Its address has tried too often, or too many others are waiting.
    TooMany(Duration),
}

/// How a user proves who he is.
#[derive(Clone, Debug)]
pub enum LoginUser {
    /// Nobody has to.
    Anybody,
    /// By his password. Names that no user has are asked for one, too.
    Password,
    /// By SCRAM. For a name that no user has nothing fits the verifier.
    Scram(ScramVerifier),
}

impl Protection {
    /// TLS for the next connection, and the certificate in PEM form; `None`: there is none.
    pub fn server_tls(&self) -> Option<(Arc<ServerConfig>, Vec<u8>)> {
        let settings = self.settings();
        Some((settings.tls.clone()?, settings.certificate.clone()))
    }

    /// Whether there are users.
    pub fn has_users(&self) -> bool {
        let settings = self.settings();
        !settings.users.is_empty() || !settings.sql_users.is_empty()
    }

    /// The names of all users, in order.
    pub fn user_names(&self) -> Vec<String> {
        let settings = self.settings();
        let mut names: Vec<String> =
            settings.users.keys().chain(settings.sql_users.keys()).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    /// What a user is confined to; `None`: he may see everything.
    pub fn confinement_of(&self, user: &str) -> Option<Arc<Confinement>> {
        self.settings().confinements.get(user).cloned()
    }

    /// How a user proves who he is.
    pub fn login_of(&self, user: &str) -> LoginUser {
        let settings = self.settings();
        if let Some(verifier) = settings.sql_users.get(user) {
            return LoginUser::Scram(verifier.clone());
        }
        if settings.users.is_empty() && settings.sql_users.is_empty() {
            return LoginUser::Anybody;
        }
        if !settings.users.is_empty() {
            return LoginUser::Password;
        }
        // So that names of users cannot be found out.
        let secret = self.basic_auth.secret_of(user).to_vec();
        let salt = secret[..16].to_vec();
        LoginUser::Scram(ScramVerifier {
            iterations: 4_096,
            salt,
            stored_key: secret.clone(),
            server_key: secret,
        })
    }

    /// Checks a name and a password.
    pub async fn check_password(&self, user: &str, password: &[u8], peer: IpAddr) -> Login {
        let settings = self.settings();
        let verdict =
            self.basic_auth.check_password(&settings.users, user.to_owned(), password.to_vec(), peer);
        match verdict.await {
            Verdict::Known => Login::Known,
            Verdict::Missing | Verdict::Wrong => Login::Wrong,
            Verdict::TooMany(wait) => Login::TooMany(wait),
        }
    }

    /// Counts an attempt by SCRAM; the error is how long the address has to wait.
    pub fn attempt(&self, peer: IpAddr) -> Result<(), Duration> {
        self.basic_auth.attempt(peer).map_or(Ok(()), Err)
    }

    /// Takes back an attempt that was right.
    pub fn forgive(&self, peer: IpAddr) {
        self.basic_auth.forgive(peer);
    }
}
