//! How many arguments a drawn call has.

use crate::random::Random;
use engine::functions::Function;

/// From the least that the function takes to two more than its table names, where it takes so many.
pub fn count(random: &mut Random, function: &Function) -> u64 {
    let least = function.min_args() as u64;
    let most = (function.max_args() as u64).min(least.max(function.args.len() as u64) + 2);
    least + random.below(most - least + 1)
}
