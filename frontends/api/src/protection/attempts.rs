//! Counts failed logins for each client address, so that passwords cannot be guessed: after too
//! many, an address has to wait. [`super::basic_auth`] and [`super::logins`] ask before they check
//! a password.

use crate::limits::{PASSWORD_ADDRESSES, PASSWORD_ATTEMPT_AGAIN, PASSWORD_ATTEMPTS};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// What addresses have used up. One attempt is forgiven each [`PASSWORD_ATTEMPT_AGAIN`].
#[derive(Default)]
pub(super) struct Attempts {
    /// When all attempts of an address will be forgiven.
    forgiven: HashMap<IpAddr, Instant>,
}

impl Attempts {
    /// How long this address has to wait for its next attempt; `None`: it may try now.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let until = self.forgiven.get(&network(address))?;
        let used = until.saturating_duration_since(now);
        let most = PASSWORD_ATTEMPT_AGAIN * (PASSWORD_ATTEMPTS - 1);
        used.checked_sub(most).filter(|wait| !wait.is_zero())
    }

    /// Counts an attempt. It is counted before its result is known, so that many at the same time
    /// are not tried together.
    pub(super) fn count(&mut self, address: IpAddr, now: Instant) {
        if self.forgiven.len() >= PASSWORD_ADDRESSES {
            self.forgiven.retain(|_, until| *until > now);
        }
        if self.forgiven.len() >= PASSWORD_ADDRESSES {
            // Too many addresses at the same time: forget one of them rather than use more memory.
            let any = self.forgiven.keys().next().copied();
            any.map(|any| self.forgiven.remove(&any));
        }
        let until = self.forgiven.entry(network(address)).or_insert(now);
        *until = (*until).max(now) + PASSWORD_ATTEMPT_AGAIN;
    }

    /// Takes back an attempt that was right.
    pub(super) fn forgive(&mut self, address: IpAddr) {
        if let Some(until) = self.forgiven.get_mut(&network(address))
            && let Some(earlier) = until.checked_sub(PASSWORD_ATTEMPT_AGAIN)
        {
            *until = earlier;
        }
    }
}

/// The address, or of IPv6 its network of 64 bits: one client has all addresses in it.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => IpAddr::V4(mapped),
            None => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        },
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_tried_too_often_waits() {
        let now = Instant::now();
        let mut attempts = Attempts::default();
        let guesser: IpAddr = "192.0.2.1".parse().unwrap();
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        for _ in 0..PASSWORD_ATTEMPTS {
            assert_eq!(attempts.wait(guesser, now), None);
            attempts.count(guesser, now);
        }
        assert_eq!(attempts.wait(guesser, now), Some(PASSWORD_ATTEMPT_AGAIN));
        assert_eq!(attempts.wait(other, now), None, "others are not concerned");
        assert_eq!(attempts.wait(guesser, now + PASSWORD_ATTEMPT_AGAIN), None);
        attempts.forgive(guesser);
        assert_eq!(attempts.wait(guesser, now), None);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let now = Instant::now();
        let mut attempts = Attempts::default();
        for host in 0..u128::from(PASSWORD_ATTEMPTS) {
            attempts.count(IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | host)), now);
        }
        assert!(attempts.wait("2001:db8::ffff".parse().unwrap(), now).is_some());
        assert!(attempts.wait("2001:db8:0:1::".parse().unwrap(), now).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut attempts = Attempts::default();
        for address in 0..u32::try_from(PASSWORD_ADDRESSES).unwrap() + 10 {
            attempts.count(IpAddr::V4(address.into()), now);
        }
        assert!(attempts.forgiven.len() <= PASSWORD_ADDRESSES);
    }
}
