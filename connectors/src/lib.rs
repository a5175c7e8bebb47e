//! The outside world: [`scrape`] and [`discovery`] bring samples in, [`remote`] takes them by push,
//! [`alertmanager`] carries alerts out. Knows the store, but no plan and no query.

pub mod alertmanager;
pub mod discovery;
pub mod limits;
pub mod remote;
pub mod scrape;
