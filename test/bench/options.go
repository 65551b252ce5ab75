package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"
)

// options is what the command line asks for.
type options struct {
	quick, write bool
	only         []string // nil is all
	dir, note    string
	against      string // a commit whose daemon has its turns beside this one's; "" is none
	timeout      time.Duration
	budget       time.Duration // of the throughput: no round is begun that would end later; 0 is none
	rounds       int
	length       time.Duration // of a turn
	messages     int           // the most in a turn
	idle         int           // idle connections
	settle       time.Duration // from their opening to the look at the memory
	large        int           // octets of each message that many connections send at once
	depth        int           // messages in the filled queue
}

func parse(args []string) (options, error) {
	o := options{settle: 2 * time.Second}
	var only string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.BoolVar(&o.quick, "quick", false, "end within two minutes: fewer combinations, and other defaults for what is not given")
	fs.BoolVar(&o.write, "write", false, "write docs/benchmarks.md and docs/benchmarks.svg too; not together with -only")
	fs.StringVar(&only, "only", "", "the measurements to make, with commas between: "+strings.Join(names(measurements()), ","))
	fs.StringVar(&o.dir, "dir", "", "where the servers keep their messages (default: a temporary directory)")
	fs.StringVar(&o.against, "against", "", "a commit: guards measures the daemon that it builds beside this one, as both come")
	fs.StringVar(&o.note, "note", "", "what a reader of the page should know of this run")
	fs.DurationVar(&o.timeout, "timeout", 90*time.Minute, "give up after this time (-quick: 2m)")
	fs.IntVar(&o.rounds, "rounds", 5, "how often each server has its turn (-quick: 3, or as many as fit)")
	fs.DurationVar(&o.length, "turn", 2*time.Second, "how long a turn is (-quick: 700ms)")
	fs.IntVar(&o.messages, "messages", 200_000, "the most messages in a turn")
	fs.IntVar(&o.idle, "idle", 5000, "idle connections (-quick: 500)")
	fs.IntVar(&o.large, "large", 50_000_000, "octets of each of the messages that 100 connections send at once (-quick: 5000000)")
	fs.IntVar(&o.depth, "depth", 1_000_000, "messages in the filled queue (-quick: 50000)")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.quick {
		o.hurry(fs)
	}
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	return o, o.check()
}

// hurry changes the defaults of what was not given.
func (o *options) hurry(fs *flag.FlagSet) {
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	o.budget, o.settle = 30*time.Second, 300*time.Millisecond
	for name, change := range map[string]func(){
		"timeout": func() { o.timeout = 2 * time.Minute },
		"rounds":  func() { o.rounds = 3 },
		"turn":    func() { o.length = 700 * time.Millisecond },
		"idle":    func() { o.idle = 500 },
		"large":   func() { o.large = 5_000_000 },
		"depth":   func() { o.depth = 50_000 },
	} {
		if !given[name] {
			change()
		}
	}
}

func (o *options) check() error {
	for _, name := range o.only {
		if !slices.Contains(names(measurements()), name) {
			return fmt.Errorf("no measurement %q; there are %s", name, strings.Join(names(measurements()), ", "))
		}
	}
	switch {
	case o.rounds < 1 || o.idle < 1 || o.length <= 0 || o.timeout <= 0:
		return errors.New("-rounds and -idle want 1 or more, -turn and -timeout more than nothing")
	case o.messages < 100 || o.depth < 100:
		return errors.New("-messages and -depth want 100 or more")
	case o.large < 1000 || o.large > 50_000_000:
		return errors.New("-large wants 1000 to 50000000, which is what Incoming takes by default")
	case o.write && o.only != nil:
		return errors.New("-write wants all measurements: not together with -only")
	}
	return nil
}
