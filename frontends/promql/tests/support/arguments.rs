//! The number of arguments of a random call, for tests that draw calls from the table of functions.

use crate::random::Random;
use engine::functions::Function;

/// From the function's minimum to two more than its table entry names, if it accepts that many.
pub fn count(random: &mut Random, function: &Function) -> u64 {
    let least = function.min_args() as u64;
    let most = (function.max_args() as u64).min(least.max(function.args.len() as u64) + 2);
    least + random.below(most - least + 1)
}
