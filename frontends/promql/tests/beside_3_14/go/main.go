// Answers of Prometheus 3.14, as a library, to the questions of a promqltest file without expectations: writes the file with
// them. Read next: ../main.rs, which draws the questions.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/teststorage"
)

// The part of a test that loading needs.
type loading struct {
	testing.TB
	cleanups []func()
}

func (*loading) Helper()             {}
func (*loading) Name() string        { return "answers" }
func (*loading) Log(...any)          {}
func (*loading) Logf(string, ...any) {}
func (l *loading) Cleanup(f func())  { l.cleanups = append(l.cleanups, f) }
func (*loading) FailNow()            { panic("the samples cannot be loaded") }
func (*loading) Errorf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func (*loading) TempDir() string {
	dir, err := os.MkdirTemp("", "answers")
	if err != nil {
		panic(err)
	}
	return dir
}

var (
	instant = regexp.MustCompile(`^eval instant at (\d+)ms (.+)$`)
	ranged  = regexp.MustCompile(`^eval range from (\d+)ms to (\d+)ms step (\d+)ms (.+)$`)
)

func ms(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func at(t int64) time.Time { return time.UnixMilli(t).UTC() }

func number(v float64) string {
	if value.IsStaleNaN(v) {
		return "stale"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func sample(f float64, h *histogram.FloatHistogram) string {
	if h != nil {
		return h.TestExpression()
	}
	return number(f)
}

// The values of a series at the steps, with gaps.
func steps(s promql.Series, start, end, step int64) string {
	floats, histograms := s.Floats, s.Histograms
	var out []string
	for t := start; t <= end; t += step {
		h := len(histograms) > 0 && histograms[0].T == t
		switch {
		// Where a series has both, the file has place for one.
		case len(floats) > 0 && floats[0].T == t:
			out = append(out, number(floats[0].F))
			floats = floats[1:]
		case h:
			out = append(out, histograms[0].H.TestExpression())
		default:
			out = append(out, "_")
		}
		if h {
			histograms = histograms[1:]
		}
	}
	return strings.Join(out, " ")
}

func notes(out *bufio.Writer, query string, all annotations.Annotations) {
	warnings, infos := all.AsStrings(query, 0, 0)
	for word, texts := range map[string][]string{"warn": warnings, "info": infos} {
		if len(texts) == 0 {
			fmt.Fprintf(out, "  expect no_%s\n", word)
		}
		for _, text := range texts {
			fmt.Fprintf(out, "  expect %s msg: %s\n", word, text)
		}
	}
}

// Writes what must come of a query. A range vector has the times of its samples: it is not asked for.
func answer(out *bufio.Writer, query string, res *promql.Result, start, end, step int64) {
	if res.Err != nil {
		fmt.Fprintf(out, "  expect fail msg: %s\n\n", strings.ReplaceAll(res.Err.Error(), "\n", " "))
		return
	}
	notes(out, query, res.Warnings)
	switch v := res.Value.(type) {
	case promql.Scalar:
		fmt.Fprintf(out, "  %s\n", number(v.V))
	case promql.String:
		fmt.Fprintf(out, "  expect string %q\n", v.V)
	case promql.Vector:
		for _, s := range v {
			fmt.Fprintf(out, "  %s %s\n", s.Metric, sample(s.F, s.H))
		}
	case promql.Matrix:
		for _, s := range v {
			fmt.Fprintf(out, "  %s %s\n", s.Metric, steps(s, start, end, step))
		}
	}
	fmt.Fprintln(out)
}

func ask(ng *promql.Engine, storage *teststorage.TestStorage, line string, out *bufio.Writer) {
	ctx := context.Background()
	fmt.Fprintln(out, line)
	var q promql.Query
	var err error
	var start, end, step int64
	var query string
	if m := instant.FindStringSubmatch(line); m != nil {
		start, query = ms(m[1]), m[2]
		end, step = start, 1
		q, err = ng.NewInstantQuery(ctx, storage, nil, query, at(start))
	} else {
		m := ranged.FindStringSubmatch(line)
		start, end, step, query = ms(m[1]), ms(m[2]), ms(m[3]), m[4]
		q, err = ng.NewRangeQuery(ctx, storage, nil, query, at(start), at(end), time.Duration(step)*time.Millisecond)
	}
	if err != nil {
		answer(out, query, &promql.Result{Err: err}, start, end, step)
		return
	}
	defer q.Close()
	answer(out, query, q.Exec(ctx), start, end, step)
}

func main() {
	// Feature flags are on, or with an argument off.
	suite := len(os.Args) == 1
	model.NameValidationScheme = model.UTF8Validation
	ng := promql.NewEngine(promql.EngineOpts{
		MaxSamples:               1000000,
		Timeout:                  100 * time.Second,
		LookbackDelta:            5 * time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return 60000 },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnableDelayedNameRemoval: suite,
		UseStartTimestamps:       suite,
		Parser:                   parser.NewParser(promqltest.TestParserOpts),
	})
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	var load []string
	var storage *teststorage.TestStorage
	tb := &loading{}
	for in.Scan() {
		line := in.Text()
		switch {
		case line == "clear":
			load, storage = nil, nil
			for _, cleanup := range tb.cleanups {
				cleanup()
			}
			tb = &loading{}
			fmt.Fprint(out, "clear\n\n")
		case strings.HasPrefix(line, "eval "):
			if storage == nil {
				storage = promqltest.LoadedStorage(tb, strings.Join(load, "\n"))
				fmt.Fprintln(out)
			}
			ask(ng, storage, line, out)
		default:
			load = append(load, line)
			fmt.Fprintln(out, line)
		}
	}
	if err := in.Err(); err != nil {
		panic(err)
	}
}
