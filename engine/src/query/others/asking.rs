//! Who asks: a question to each of the other processes, and what they answer as blocks of further shards.

use super::{Done, Line, Others, Part, Question, Reply, What, hear, say};
use crate::limits::LABELS_BYTES;
use crate::plan::notes::Annotations;
use crate::query::guard::Guard;
use crate::query::run::ShardBlocks;
use crate::query::shard::PortBlock;
use crate::query::{QueryError, QueryOptions, Series};
use std::collections::HashMap;
use storage::model::{Labels, SHARDS};

/// A question that the other processes work at; nothing, if there are none.
#[derive(Default)]
pub struct Asking {
    process: usize,
    talks: Vec<Talk>,
}

/// What one of them is asked.
struct Talk {
    process: usize,
    line: Box<dyn Line>,
    rows: usize,
    /// Labels per shard and port, as far as they have come.
    labels: HashMap<(u16, usize), Vec<Labels>>,
}

impl Asking {
    /// Sends the question to all of them.
    pub(in crate::query) fn new(
        others: &dyn Others,
        what: What,
        options: &QueryOptions,
        guard: &Guard,
    ) -> Result<Asking, QueryError> {
        let mut options = options.clone();
        (_, options.timeout) = guard.patience();
        let question = Question { what, options };
        let mut talks = Vec::new();
        for (process, mut line) in others.lines(guard)? {
            say(&mut *line, &question, guard)?;
            line.flush(guard)?;
            talks.push(Talk { process, line, rows: 0, labels: HashMap::new() });
        }
        Ok(Asking { process: others.process(), talks })
    }

    /// How many series they have.
    pub fn rows(&mut self, guard: &Guard) -> Result<usize, QueryError> {
        for talk in &mut self.talks {
            let Reply::Selected(rows) = talk.hear(guard)? else { return Err(talk.surprise()) };
            talk.rows = rows;
        }
        Ok(self.talks.iter().map(|talk| talk.rows).sum())
    }

    /// Has them begin, with so many steps in a block.
    pub fn begin(&mut self, size: usize, guard: &Guard) -> Result<(), QueryError> {
        for talk in self.talks.iter_mut().filter(|talk| talk.rows > 0) {
            say(&mut *talk.line, &size, guard)?;
            talk.line.flush(guard)?;
        }
        Ok(())
    }

    /// The next block of `steps` steps: `own` and those of the others, in the order of processes and shards, so that all
    /// processes come to the same answer.
    pub fn block(
        &mut self,
        own: ShardBlocks,
        steps: usize,
        guard: &Guard,
    ) -> Result<ShardBlocks, QueryError> {
        let mut blocks: ShardBlocks = own.into_iter().map(|(s, b)| (wide(self.process, s), b)).collect();
        for talk in self.talks.iter_mut().filter(|talk| talk.rows > 0) {
            talk.block(&mut blocks, steps, guard)?;
        }
        blocks.sort_by_key(|(shard, _)| *shard);
        Ok(blocks)
    }

    /// The samples of the range selector that was asked for.
    pub fn series(&mut self, guard: &Guard) -> Result<Vec<Series>, QueryError> {
        let mut all = Vec::new();
        for talk in &mut self.talks {
            for _ in 0..SHARDS {
                let Reply::Series(series, counted) = talk.hear(guard)? else { return Err(talk.surprise()) };
                guard.look_elsewhere(counted)?;
                guard.grow(series.iter().map(Series::bytes).sum())?;
                all.extend(series);
            }
        }
        Ok(all)
    }

    /// What they have to say in the end.
    pub fn end(self, guard: &Guard) -> Result<Annotations, QueryError> {
        let mut all = Annotations::default();
        for mut talk in self.talks {
            let Reply::Done(Done { notes, peak, steps }) = talk.hear(guard)? else {
                return Err(talk.surprise());
            };
            guard.peaked(peak);
            steps.into_iter().for_each(|(t, samples, fresh)| guard.look_at(t, samples, fresh));
            all.extend(notes);
        }
        Ok(all)
    }
}

/// A number for that shard of that process which no other process has for one of its own.
fn wide(process: usize, shard: u16) -> u16 {
    process as u16 * SHARDS + shard
}

impl Talk {
    /// What fails there as it would here fails with the same words; of the rest it is said where.
    fn hear(&mut self, guard: &Guard) -> Result<Reply, QueryError> {
        let name = self.line.name();
        let name = |text: String| format!("{name}: {text}");
        match hear(&mut *self.line, guard)? {
            Reply::Failed(QueryError::Timeout(text)) => Err(QueryError::Timeout(name(text))),
            Reply::Failed(QueryError::Canceled(text)) => Err(QueryError::Canceled(name(text))),
            Reply::Failed(QueryError::Internal(text)) => Err(QueryError::Internal(name(text))),
            Reply::Failed(error @ (QueryError::BadData(_) | QueryError::Execution(_))) => Err(error),
            reply => Ok(reply),
        }
    }

    fn surprise(&self) -> QueryError {
        QueryError::Internal(format!("{} sent what was not asked for", self.line.name()))
    }

    fn block(&mut self, into: &mut ShardBlocks, steps: usize, guard: &Guard) -> Result<(), QueryError> {
        loop {
            match self.hear(guard)? {
                Reply::Part(Part { shard, mut ports }) if shard < SHARDS => {
                    for (number, port) in ports.iter_mut().enumerate() {
                        if port.rows.is_none() && port.steps.len() != steps {
                            return Err(self.surprise());
                        }
                        let bytes = |labels: &Labels| LABELS_BYTES + labels.encoded().len();
                        guard.grow(port.labels.iter().map(bytes).sum())?;
                        self.complete(shard, number, port);
                    }
                    into.push((wide(self.process, shard), ports));
                }
                Reply::Block(counted) => return guard.look_elsewhere(counted),
                _ => return Err(self.surprise()),
            }
        }
    }

    /// Puts back the labels that came with earlier blocks.
    fn complete(&mut self, shard: u16, number: usize, port: &mut PortBlock) {
        let known = self.labels.entry((shard, number)).or_default();
        known.append(&mut port.labels);
        port.labels.clone_from(known);
    }
}
