package main

import (
	"context"
	"fmt"
	"time"
)

// guard is one that has its turns twice: with nothing that guards against hostile
// peers, and with all of it; or as an earlier commit builds it, and as it is now.
type guard struct {
	name    string
	off, on server
}

// guards is what the engine alone and the daemon are without and with limits,
// deadlines and rate limits. Both go the same way through the code: what is off
// asks less of it.
func (b *bench) guards() []guard {
	all := []guard{{engineName, b.peer(engineName+", unguarded", "", asBatch+"engine-unguarded"), b.peer(engineName, "", asBatch+"engine")}}
	for _, delivering := range []bool{false, true} {
		now := b.incoming(journal, delivering)
		all = append(all, guard{now.name, b.incoming(journal, delivering, unguarded()...), b.incoming(journal, delivering, wellGuarded()...)})
		if b.against != "" {
			before := *b
			before.daemon = b.before
			all = append(all, guard{now.name + ", against " + b.against, before.incoming(journal, delivering), now})
		}
	}
	return all
}

// unguarded takes away what can be.
func unguarded() []string {
	none := []string{"limits.connections", "limits.connections_per_ip", "limits.recipients", "limits.commands", "limits.errors",
		"limits.refused_recipients", "limits.session_size", "limits.header", "limits.header_fields", "limits.received",
		"timeouts.command", "timeouts.data", "timeouts.write", "timeouts.session"}
	var args []string
	for _, key := range none {
		args = append(args, "--set", key+"=none")
	}
	return args
}

// wellGuarded has the default of each, counts connections by address too, loopback
// not exempt, and MAIL and RCPT by client, by sender's domain and by recipient.
func wellGuarded() []string {
	return []string{"--set", "limits.exempt=[]", "--set", "limits.connections_per_ip=10000", "--set", "rate_limit.count=1000000000",
		"--set", "rate_limit.sender_count=1000000000", "--set", "rate_limit.recipient_count=1000000000"}
}

// burst is how long each of a pair is loaded before it is the other's turn: short,
// so that both meet the machine as it is at that moment, but not so short that it is
// all connecting.
func (b *bench) burst() time.Duration { return b.length / 10 }

// pairs is how often both are loaded: differences this small want many.
func (b *bench) pairs() int { return 20 * b.rounds }

// guardBudget is the time that -quick has for one guard.
const guardBudget = 1500 * time.Millisecond

// guarding measures what the guards cost. Both of a pair run all the time, and are
// loaded in turns.
func guarding(ctx context.Context, b *bench) (section, error) {
	guards := b.guards()
	turns := make(map[string][2][]turn) // without, and with
	for _, g := range guards {
		both, err := b.inTurns(ctx, g)
		if err != nil {
			return section{}, err
		}
		b.progress("guards: %-50s %s", g.name, plural(len(both[0]), "pair"))
		turns[g.name] = both
	}
	return guardSection(guards, turns, b.burst()), nil
}

func (b *bench) inTurns(ctx context.Context, g guard) (both [2][]turn, err error) {
	err = b.with(ctx, g.off, false, func(off *running, _ string) error {
		return b.with(ctx, g.on, false, func(on *running, _ string) error {
			servers := []*running{off, on}
			l := main20.load()
			l.messages = b.messages
			for _, r := range servers {
				rate, err := b.warm(ctx, r, l)
				if err != nil {
					return err
				}
				l.messages = min(l.messages, max(20*main20.connections, int(rate*b.burst().Seconds())))
			}
			for pair, began := 0, time.Now(); pair < b.pairs(); pair++ {
				if b.quick && time.Since(began) > guardBudget {
					return nil
				}
				for i := range servers {
					which := (i + pair) % 2
					t, err := b.loaded(ctx, servers[which], l)
					if err != nil {
						return err
					}
					both[which] = append(both[which], t)
				}
			}
			return nil
		})
	})
	return both, err
}

// loaded is a burst, and what the server's process did for it, deliveries too.
func (b *bench) loaded(ctx context.Context, r *running, l load) (t turn, err error) {
	before, err := worked(r.pid)
	if err != nil {
		return t, err
	}
	took, err := l.send(ctx, r.addr)
	if err == nil {
		err = r.drained(ctx)
	}
	if err != nil {
		return t, err
	}
	after, err := worked(r.pid)
	return turn{messages: l.messages, rate: float64(l.messages) / took.Seconds(), own: (after - before) / time.Duration(l.messages)}, err
}

// guardLeast is what must be left of the throughput.
const guardLeast = 0.95

func guardSection(guards []guard, turns map[string][2][]turn, turnLength time.Duration) section {
	s := section{
		title: "What the guards cost",
		text: fmt.Sprintf("4 KB, plain, 20 connections: once without a limit, a deadline or a rate limit, and once with the "+
			"default of each, with connections counted by address, and with rate limits by client, sender's domain and recipient that nobody reaches. "+
			"Where a commit is named, the daemon that it builds is the one without, and both are as they come. Both of a pair run at the same time "+
			"and are loaded in turns of about %s, 400 messages at least, so that both meet the machine as it is; ratios are pair by pair. The processors' time is that of "+
			"the server's process alone, deliveries included: on a machine that does other work too it says more than messages a second.", turnLength),
	}
	t := table{header: []string{"server", "pairs", "without: messages/s", "CPU", "with: messages/s", "CPU", "messages/s, with against without", "CPU, with against without"}}
	rate := func(t turn) float64 { return t.rate }
	own := func(t turn) float64 { return float64(t.own.Nanoseconds()) / 1000 }
	for _, g := range guards {
		off, on := turns[g.name][0], turns[g.name][1]
		rates, work := divide(each(on, rate), each(off, rate)), divide(each(on, own), each(off, own))
		t.rows = append(t.rows, []string{g.name, fmt.Sprint(len(rates)),
			spread(each(off, rate), "%.0f"), spread(each(off, own), "%.1f") + " µs",
			spread(each(on, rate), "%.0f"), spread(each(on, own), "%.1f") + " µs",
			spread(rates, "%.3f"), spread(work, "%.3f")})
		s.verdicts = append(s.verdicts,
			hold("messages a second with limits, deadlines and rate limits, against without: "+g.name, atLeast(guardLeast, "%.3f", " times"), rates, nil))
	}
	s.tables = []table{t}
	return s
}
