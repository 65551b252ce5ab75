package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/queue"
	"github.com/spf13/cobra"
)

// filterFlags selects messages.
type filterFlags struct {
	rcpt, from, reason string
	older              time.Duration
	states             []string
	all                bool
}

func (f *filterFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.rcpt, "rcpt", "", "with this recipient `ADDRESS`, or @DOMAIN")
	fs.StringVar(&f.from, "from", "", "from this sender `ADDRESS`, @DOMAIN, or '<>'")
	fs.DurationVar(&f.older, "older", 0, "received longer ago than `DURATION`; dead letters: died longer ago")
	fs.StringVar(&f.reason, "reason", "", "with this `TEXT` in the last error, or in why it is dead")
}

func (f *filterFlags) registerStates(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.states, "state", nil, "in this `STATE`: ready, waiting, leased, dead")
}

func (f *filterFlags) registerAll(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.all, "all", false, "all of them")
}

// set reports whether anything was asked for.
func (f *filterFlags) set() bool {
	return f.rcpt != "" || f.from != "" || f.reason != "" || f.older != 0 || len(f.states) > 0
}

// check finds flags that make no sense. An empty one is an unset variable of a
// script, most likely, and would choose more than is meant.
func (f *filterFlags) check(cmd *cobra.Command) error {
	for name, empty := range map[string]bool{"rcpt": f.rcpt == "", "from": f.from == "", "reason": f.reason == "", "state": len(f.states) == 0} {
		switch {
		case !empty || !cmd.Flags().Changed(name):
		case name == "from":
			return usagef(cmd, "--from: it is empty; leave it out, or write '<>' for the null sender")
		default:
			return usagef(cmd, "--%s: it is empty; leave it out for any", name)
		}
	}
	if f.older < 0 {
		return usagef(cmd, "--older %s: it is a time ago, and not negative", f.older)
	}
	for _, name := range f.states {
		switch queue.State(name) {
		case queue.StateReady, queue.StateWaiting, queue.StateLeased, queue.StateDead:
		default:
			return usagef(cmd, "--state %s: it is ready, waiting, leased or dead", name)
		}
	}
	return nil
}

// filter is what the flags select among messages in the states given; none
// given is every state.
func (f *filterFlags) filter(now time.Time, states ...queue.State) queue.Filter {
	q := queue.Filter{Rcpt: f.rcpt, From: f.from, Reason: f.reason, States: states}
	if f.older > 0 {
		q.Before = now.Add(-f.older)
	}
	for _, name := range f.states {
		q.States = append(q.States, queue.State(name))
	}
	return q
}

// tally says how many messages there are in each state: "3 messages (1 ready, 2
// dead)".
func tally(entries []queue.Entry) string {
	counts := make(map[queue.State]int)
	for _, e := range entries {
		counts[e.State]++
	}
	var parts []string
	for _, s := range []queue.State{queue.StateReady, queue.StateWaiting, queue.StateLeased, queue.StateDead} {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	text := plural(len(entries), "message")
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	return text
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
