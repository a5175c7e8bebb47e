//! Lowering of function calls, by the kind of their kernel (the function on numbers or samples).
//! Lowering divides a plan into the two stages of a physical plan: see [`super`].

use super::{LoweredStep, Lowering, unsupported};
use crate::functions::labels::absent_labels;
use crate::functions::{Kernel, OperatorFunction};
use crate::plan::details::{HistogramFunction, InfoSelector, MetricName, time_of};
use crate::plan::leaf::{Leaf, SampleSource, check_extension, has_vectors};
use crate::plan::physical::{LowerError, StepId, StepOp, Subquery, SubqueryFunction};
use crate::plan::{AggregateOp, FunctionRef, Grouping, Plan, PlanNode, PlanOp, Selector};
use storage::model::Labels;

impl Lowering {
    pub(super) fn lower_call(
        &mut self,
        function: FunctionRef,
        args: &[Plan],
        depth: usize,
    ) -> Result<LoweredStep, LowerError> {
        match function.0.kernel {
            Kernel::Window(_) => self.lower_window(function, args, depth),
            Kernel::Clock(_) | Kernel::Query(_) => {
                Ok(self.local(StepOp::TimeScalar(function, self.shift), Vec::new()))
            }
            Kernel::MapOrClock(_) if args.is_empty() => {
                Ok(self.gather(StepOp::TimeVector(function, self.shift), Vec::new()))
            }
            Kernel::Scalars(_) => {
                let inputs = args.iter().map(|a| self.lower(a, depth + 1)).collect::<Result<Vec<_>, _>>()?;
                Ok(self.add_where_inputs_are(StepOp::ScalarFunction(function), &inputs))
            }
            Kernel::Map(_) | Kernel::MapOrClock(_) | Kernel::Histogram(_) => {
                let inputs = args.iter().map(|a| self.lower(a, depth + 1)).collect::<Result<Vec<_>, _>>()?;
                Ok(self.add_where_inputs_are(StepOp::Map(function), &inputs))
            }
            Kernel::Relabel(_) => {
                let input = self.lower(&args[0], depth + 1)?;
                let texts = args[1..].iter().map(text_of).collect::<Result<Vec<_>, _>>()?;
                // New labels can make rows of different shards equal, which only the gather stage
                // can find out.
                Ok(self.collect(StepOp::Relabel(function, texts), &[input]))
            }
            Kernel::Operator(kind) => self.lower_operator_function(function, kind, args, depth),
        }
    }

    fn lower_window(
        &mut self,
        function: FunctionRef,
        args: &[Plan],
        depth: usize,
    ) -> Result<LoweredStep, LowerError> {
        if let Some(at) = args.iter().position(|arg| matches!(arg.op, PlanOp::Subquery { .. })) {
            let mut params = Vec::new();
            for arg in args[..at].iter().chain(&args[at + 1..]) {
                params.push(self.lower(arg, depth + 1)?);
            }
            return self.subquery(&args[at], SubqueryFunction::Call(function), &params);
        }
        let mut leaf = None;
        let mut params = Vec::new();
        for arg in args {
            match &arg.op {
                PlanOp::Range { selector, range } => {
                    check_extension(function, selector)?;
                    leaf = Some((self.source(selector), *range));
                }
                _ => params.push(self.lower_parameter(function, arg, depth)?),
            }
        }
        let Some((source, range)) = leaf else {
            return unsupported("a window function needs a range vector");
        };
        Ok(self.local(StepOp::Leaf(source, Leaf::Window(function, range)), params))
    }

    /// A parameter of a window function, as a scalar that every shard can compute.
    fn lower_parameter(
        &mut self,
        function: FunctionRef,
        arg: &Plan,
        depth: usize,
    ) -> Result<StepId, LowerError> {
        if has_vectors(arg) && self.is_query() {
            let scalar_params = &mut self.physical.scalar_params;
            let number = scalar_params.iter().position(|plan| plan == arg).unwrap_or(scalar_params.len());
            if number == scalar_params.len() {
                scalar_params.push(arg.clone());
            }
            let LoweredStep::Local(id) = self.local(StepOp::ScalarParam(number), Vec::new()) else {
                return unsupported("a parameter must be local");
            };
            return Ok(id);
        }
        match self.lower(arg, depth + 1)? {
            LoweredStep::Local(id) if self.scalar_of(id).is_some() => Ok(id),
            _ => {
                let name = function.0.name;
                unsupported(format!("a parameter of {name} that depends on series is not supported yet"))
            }
        }
    }

    fn lower_operator_function(
        &mut self,
        function: FunctionRef,
        kind: OperatorFunction,
        args: &[Plan],
        depth: usize,
    ) -> Result<LoweredStep, LowerError> {
        match kind {
            OperatorFunction::Absent => {
                let input = self.lower(&args[0], depth + 1)?;
                let labels = match &args[0].op {
                    PlanOp::Instant(selector) => absent_labels(&selector.matchers),
                    _ => Labels::default(),
                };
                Ok(self.absent(labels, input))
            }
            OperatorFunction::AbsentOverTime => self.lower_absent_over_time(function, &args[0]),
            OperatorFunction::StartTimestamp | OperatorFunction::Timestamp => {
                // Except for selectors, an expression has no sample times.
                let PlanOp::Instant(selector) = &args[0].op else {
                    let input = self.lower(&args[0], depth + 1)?;
                    return Ok(self.add_where_inputs_are(StepOp::Map(function), &[input]));
                };
                Ok(self.lower_timestamp(kind, selector))
            }
            OperatorFunction::Scalar => self.lower_unary(StepOp::ToScalar, &args[0], depth),
            OperatorFunction::Vector => self.lower_unary(StepOp::ToVector, &args[0], depth),
            OperatorFunction::Sort => self.lower_unary(StepOp::Sort(false), &args[0], depth),
            OperatorFunction::SortDesc => self.lower_unary(StepOp::Sort(true), &args[0], depth),
            OperatorFunction::HistogramQuantile => {
                self.lower_histogram_function(HistogramFunction::Quantile, args, depth)
            }
            OperatorFunction::HistogramFraction => {
                self.lower_histogram_function(HistogramFunction::Fraction, args, depth)
            }
            OperatorFunction::HistogramQuantiles => {
                let scalars_then_vector: Vec<Plan> = args[2..].iter().chain(&args[..1]).cloned().collect();
                self.lower_histogram_function(
                    HistogramFunction::Quantiles(text_of(&args[1])?),
                    &scalars_then_vector,
                    depth,
                )
            }
            OperatorFunction::Info => self.lower_info(args, depth),
            OperatorFunction::Statement => unsupported("a statement runs again at each evaluation"),
            OperatorFunction::SortByLabel | OperatorFunction::SortByLabelDesc => {
                let labels = args[1..].iter().map(text_of).collect::<Result<Vec<_>, _>>()?;
                let descending = kind == OperatorFunction::SortByLabelDesc;
                self.lower_unary(StepOp::SortByLabel(labels, descending), &args[0], depth)
            }
        }
    }

    fn lower_absent_over_time(
        &mut self,
        function: FunctionRef,
        arg: &PlanNode,
    ) -> Result<LoweredStep, LowerError> {
        let PlanOp::Range { selector, range } = &arg.op else {
            let present = self.subquery(arg, SubqueryFunction::Present, &[])?;
            return Ok(self.absent(Labels::default(), present));
        };
        check_extension(function, selector)?;
        let source = self.source(selector);
        let present = self.local(StepOp::Leaf(source, Leaf::Present(*range)), Vec::new());
        Ok(self.absent(absent_labels(&selector.matchers), present))
    }

    /// Reads the sample itself, even with `smoothed`.
    fn lower_timestamp(&mut self, kind: OperatorFunction, selector: &Selector) -> LoweredStep {
        let mut source = SampleSource { extension: None, ..self.source(selector) };
        if kind == OperatorFunction::StartTimestamp {
            return self.local(StepOp::Leaf(source, Leaf::StartTimestamp), Vec::new());
        }
        let mut shorter = 0;
        if source.at.is_some() {
            // Prometheus loads the samples around the fixed time minus the offset, but then looks
            // back from the fixed time: it finds only samples in both ranges.
            shorter = selector.offset.abs();
            source.offset += selector.offset.max(0) - selector.offset;
        }
        self.local(StepOp::Leaf(source, Leaf::Timestamp(shorter)), Vec::new())
    }

    /// A function of histograms: scalars, then the vector.
    fn lower_histogram_function(
        &mut self,
        ask: HistogramFunction,
        args: &[Plan],
        depth: usize,
    ) -> Result<LoweredStep, LowerError> {
        let inputs = args.iter().map(|a| self.lower(a, depth + 1)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.collect(StepOp::Histogram(ask), &inputs))
    }

    /// The vector, and a leaf for the info series, which is evaluated at the time of the vector's
    /// samples.
    fn lower_info(&mut self, args: &[Plan], depth: usize) -> Result<LoweredStep, LowerError> {
        let base = self.lower(&args[0], depth + 1)?;
        let matchers = match args.get(1).map(|arg| &arg.op) {
            Some(PlanOp::Instant(selector)) => Some(selector.matchers.as_slice()),
            Some(_) => return unsupported("info() needs a label selector"),
            None => None,
        };
        let (labels, matchers) = InfoSelector::from_matchers(matchers);
        let (offset, at) = time_of(&args[0]).unwrap_or_default();
        let source =
            SampleSource { matchers, offset: offset + self.shift, at, extension: None, counts_only: false };
        let info = self.local(StepOp::Leaf(source, Leaf::Info), Vec::new());
        Ok(self.collect(StepOp::Info(labels), &[base, info]))
    }

    fn lower_unary(&mut self, op: StepOp, arg: &Plan, depth: usize) -> Result<LoweredStep, LowerError> {
        let input = self.lower(arg, depth + 1)?;
        Ok(self.collect(op, &[input]))
    }

    /// A window over the rows of a subquery.
    fn subquery(
        &mut self,
        arg: &PlanNode,
        windowed: SubqueryFunction,
        params: &[LoweredStep],
    ) -> Result<LoweredStep, LowerError> {
        let PlanOp::Subquery { input, range, step, offset, at } = &arg.op else {
            return unsupported("a window function needs a range vector");
        };
        if !self.is_query() {
            return unsupported("subqueries are not live");
        }
        let subquery =
            Subquery { input: input.clone(), range: *range, step: *step, offset: *offset, at: *at };
        let known = &mut self.physical.subqueries;
        let number = known.iter().position(|s| *s == subquery).unwrap_or(known.len());
        if number == known.len() {
            known.push(subquery);
        }
        Ok(self.collect(StepOp::Subquery(number, windowed), params))
    }

    fn absent(&mut self, labels: Labels, input: LoweredStep) -> LoweredStep {
        let partial = self.add_where_inputs_are(
            StepOp::PartialAggregate(AggregateOp::Count, Grouping::default()),
            &[input],
        );
        let merge = StepOp::MergeAggregate(AggregateOp::Count, MetricName::default());
        let count = self.collect(merge, &[partial]);
        self.collect(StepOp::Absent(labels), &[count])
    }
}

fn text_of(plan: &Plan) -> Result<String, LowerError> {
    match &plan.op {
        PlanOp::Text(text) => Ok(text.clone()),
        _ => unsupported("expected a string"),
    }
}
