//! Limits HTTP connections. A *slot* is the right of one connection to be served: there is a number
//! of slots for all clients, a share of them for one address, and a reserve that still answers
//! health checks and scrapes of `/metrics` when all slots are in use.
//!
//! A connection that only waits for its client gives its slot to a new one, so idle connections
//! cannot lock out other clients.

use super::limits::{DISPLACE_AFTER, DISPLACE_RESERVE_AFTER, RESERVE_CONNECTIONS};
use super::progress::{CloseReason, Progress};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::{Counter, Gauge, Metrics};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// What a connection may request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Everything.
    All,
    /// Health and metrics only: all slots are in use.
    HealthWhenFull,
    /// Health and metrics only: the address uses all slots that one address may have.
    HealthOfAddress,
}

/// The slots of the server and the open connections.
pub(crate) struct Slots {
    /// Slots for all clients.
    most: usize,
    /// Slots for one address.
    most_by_address: usize,
    /// The open connections.
    open: Mutex<OpenConnections>,
    /// Notified when a connection ends.
    freed: Notify,
    metrics: SlotMetrics,
}

#[derive(Default)]
struct OpenConnections {
    next: u64,
    connections: HashMap<u64, Entry>,
    ordinary: usize,
    reserve: usize,
    by_address: HashMap<IpAddr, usize>,
}

struct Entry {
    address: IpAddr,
    grant: Grant,
    progress: Arc<Progress>,
}

struct SlotMetrics {
    ordinary: Arc<Gauge>,
    reserve: Arc<Gauge>,
    closed: [Arc<Counter>; CloseReason::ALL.len()],
    /// All connections that were accepted, and those of them that are over, whoever closed them.
    accepted: Arc<Counter>,
    ended: Arc<Counter>,
}

impl SlotMetrics {
    fn new(metrics: &Metrics) -> SlotMetrics {
        let open = |slots| {
            metrics.gauge("perennial_http_connections", "Open HTTP connections.", &[("slots", slots)])
        };
        let closed = |why: CloseReason| {
            metrics.counter(
                "perennial_http_connections_closed_total",
                "HTTP connections that the server closed because of their clients.",
                &[("reason", why.as_str())],
            )
        };
        SlotMetrics {
            ordinary: open("ordinary"),
            reserve: open("reserve"),
            closed: CloseReason::ALL.map(closed),
            accepted: metrics.counter(
                "net_conntrack_listener_conn_accepted_total",
                "Total number of connections opened to the listener of a given name.",
                &[("listener_name", "http")],
            ),
            ended: metrics.counter(
                "net_conntrack_listener_conn_closed_total",
                "Total number of connections closed that were made to the listener of a given name.",
                &[("listener_name", "http")],
            ),
        }
    }
}

impl Slots {
    /// `most` slots for all clients, `most_by_address` of them for one address.
    pub(crate) fn new(most: usize, most_by_address: usize, metrics: &Metrics) -> Arc<Slots> {
        Arc::new(Slots {
            // A limit of 0 would lock out even the request that shows what is wrong.
            most: most.max(1),
            most_by_address: most_by_address.max(1),
            open: Mutex::default(),
            freed: Notify::new(),
            metrics: SlotMetrics::new(metrics),
        })
    }

    /// Waits for a slot for a connection from `client`; it waits only if even the reserve is in
    /// use.
    pub(crate) async fn admit(self: &Arc<Slots>, client: IpAddr, progress: &Arc<Progress>) -> Slot {
        let address = client_address(client);
        loop {
            // Before the attempt: a slot that is freed between the two must wake this one.
            let freed = self.freed.notified();
            if let Some(slot) = self.try_admit(address, progress) {
                return slot;
            }
            // By then another connection may have been idle long enough to be closed.
            let _ = timeout(DISPLACE_RESERVE_AFTER, freed).await;
        }
    }

    fn try_admit(self: &Arc<Slots>, address: IpAddr, progress: &Arc<Progress>) -> Option<Slot> {
        let mut open = self.open.lock();
        let mut grant = self.grant(&open, address);
        // A connection that does nothing makes way for one that wants something; of an address at
        // its limit only its own may, so that it cannot push out others.
        let displaced = match grant {
            Grant::All => None,
            Grant::HealthWhenFull => open.waits_longest(DISPLACE_AFTER, |e| e.grant == Grant::All),
            Grant::HealthOfAddress => {
                open.waits_longest(DISPLACE_AFTER, |e| e.grant == Grant::All && e.address == address)
            }
        };
        if let Some(id) = displaced {
            open.displace(id);
            grant = self.grant(&open, address);
        }
        // The reserve has no limit by address: a load balancer in front of many clients is one
        // address, and its health checks must get through.
        if grant != Grant::All && open.reserve >= RESERVE_CONNECTIONS {
            let id = open.waits_longest(DISPLACE_RESERVE_AFTER, |e| e.grant != Grant::All)?;
            open.displace(id);
        }
        let id = open.insert(Entry { address, grant, progress: progress.clone() });
        self.metrics.accepted.inc();
        self.show(&open);
        drop(open);
        if grant != Grant::All {
            // Such a connection is closed after one answer, so that the reserve does not fill with
            // idle ones.
            progress.lend();
        }
        Some(Slot { slots: self.clone(), id, grant })
    }

    fn grant(&self, open: &OpenConnections, address: IpAddr) -> Grant {
        // The limit of the address first: its client should learn that it is itself the cause.
        if open.by_address.get(&address).is_some_and(|n| *n >= self.most_by_address) {
            return Grant::HealthOfAddress;
        }
        if open.ordinary >= self.most { Grant::HealthWhenFull } else { Grant::All }
    }

    fn show(&self, open: &OpenConnections) {
        self.metrics.ordinary.set(open.ordinary as f64);
        self.metrics.reserve.set(open.reserve as f64);
    }

    /// Counts a connection that the server closed.
    pub(crate) fn count(&self, why: CloseReason) {
        self.metrics.closed[why as usize].inc();
    }
}

impl OpenConnections {
    fn insert(&mut self, entry: Entry) -> u64 {
        if entry.grant == Grant::All {
            self.ordinary += 1;
            *self.by_address.entry(entry.address).or_default() += 1;
        } else {
            self.reserve += 1;
        }
        self.next += 1;
        self.connections.insert(self.next, entry);
        self.next
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.connections.remove(&id)?;
        if entry.grant != Grant::All {
            self.reserve -= 1;
            return Some(entry);
        }
        self.ordinary -= 1;
        if let Some(n) = self.by_address.get_mut(&entry.address) {
            *n -= 1;
            // Without this the map would keep every address that ever connected.
            if *n == 0 {
                self.by_address.remove(&entry.address);
            }
        }
        Some(entry)
    }

    /// Among the connections that `which` selects, the one that has waited longest for its client,
    /// if at least `age`.
    fn waits_longest(&self, age: Duration, which: impl Fn(&Entry) -> bool) -> Option<u64> {
        let now = Instant::now();
        let picked = self.connections.iter().filter(|(_, entry)| which(entry));
        // Connections that work, or wait for the server, have no such time and are never displaced.
        let waiting = picked.filter_map(|(id, entry)| Some((entry.progress.waits_since()?, *id)));
        let (since, id) = waiting.min()?;
        (now.duration_since(since) >= age).then_some(id)
    }

    /// Closes a connection; its slot is free at once.
    fn displace(&mut self, id: u64) {
        if let Some(entry) = self.remove(id) {
            entry.progress.displace();
        }
    }
}

/// What counts as one address: for IPv6 the network prefix of one customer.
pub(super) fn client_address(address: IpAddr) -> IpAddr {
    // IPv4 addresses in IPv6 form would otherwise share one prefix, and one limit, all of them.
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// The slot of a connection; dropping it frees the slot.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    id: u64,
    grant: Grant,
}

impl Slot {
    /// What the connection may request.
    pub(crate) fn grant(&self) -> Grant {
        self.grant
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.open.lock();
        open.remove(self.id);
        self.slots.metrics.ended.inc();
        self.slots.show(&open);
        drop(open);
        // All of them: which one may have the slot depends on its address.
        self.slots.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::Exchange;
    use super::super::serve::Timeouts;
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn admitted(slots: &Arc<Slots>, client: u8) -> Option<(Slot, Arc<Progress>)> {
        let progress = Progress::new(Timeouts::default());
        slots.try_admit(address(client), &progress).map(|slot| (slot, progress))
    }

    #[tokio::test]
    async fn silent_connections_give_way_and_busy_ones_do_not() {
        let slots = Slots::new(3, 2, &Metrics::default());
        let first: Vec<_> = (0..2).map(|_| admitted(&slots, 1).unwrap()).collect();
        let busy = Exchange::begin(&first[1].1);
        assert_eq!(admitted(&slots, 1).unwrap().0.grant(), Grant::HealthOfAddress, "too young to give way");
        first[0].1.age(DISPLACE_AFTER);
        let (third, _) = admitted(&slots, 1).unwrap();
        assert_eq!(third.grant(), Grant::All, "the silent one gave way");
        first[0].1.displaced().await;
        let (other, _) = admitted(&slots, 2).unwrap();
        assert_eq!(other.grant(), Grant::All);
        assert_eq!(admitted(&slots, 3).unwrap().0.grant(), Grant::HealthWhenFull);
        drop((other, busy));
        assert_eq!(admitted(&slots, 3).unwrap().0.grant(), Grant::All);
        drop((first, third));
        let open = slots.open.lock();
        assert_eq!((open.ordinary, open.by_address.len()), (0, 0));
    }

    #[test]
    fn the_reserve_is_bounded_and_moves_on() {
        let slots = Slots::new(1, 1, &Metrics::default());
        let (slot, progress) = admitted(&slots, 1).unwrap();
        let busy = Exchange::begin(&progress);
        let reserve: Vec<_> = (0..RESERVE_CONNECTIONS).map(|_| admitted(&slots, 2).unwrap()).collect();
        assert!(reserve.iter().all(|(slot, _)| slot.grant() == Grant::HealthWhenFull));
        assert!(admitted(&slots, 3).is_none());
        reserve[5].1.age(DISPLACE_RESERVE_AFTER);
        assert!(admitted(&slots, 3).is_some(), "a silent one gave way");
        drop((slot, busy));
    }

    #[test]
    fn one_customer_is_one_address() {
        let of = |text: &str| client_address(text.parse().unwrap());
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
