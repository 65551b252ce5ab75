package main

import (
	"context"
	"fmt"
	"time"
)

// variant is the daemon set up in some way, whose throughput is held against the
// daemon as it comes.
type variant struct {
	name string
	args []string // of the daemon
	// wants is the least share of the plain throughput; 0 is none.
	wants float64
}

// costsBudget is the time after which -quick begins no further round.
const costsBudget = 5 * time.Second

const plainName = "as it comes"

// costs is what parts of the daemon that can be switched on or off take of its
// throughput: each variant has its turns beside the daemon as it comes, with the
// same message, which is signed.
func costs(ctx context.Context, b *bench) (_ section, err error) {
	m, err := newSignedMail(b.dir)
	if err != nil {
		return section{}, err
	}
	defer func() {
		if cerr := m.close(); err == nil {
			err = cerr
		}
	}()
	variants := []variant{
		{name: plainName},
		{name: "SPF, DKIM, DMARC and iprev; the DNS remembered", args: authenticating(m.remembered), wants: 0.4},
		{name: "the same, every question asked anew", args: authenticating(m.forgotten)},
	}
	turns := make(map[string][]turn)
	rounds, began := b.rounds, time.Now()
	for round := range b.rounds {
		if b.quick && time.Since(began) > costsBudget {
			rounds = round
			break
		}
		for _, v := range rotated(variants, round) {
			s := server{name: v.name, missing: needs("smtp-source"), start: func(ctx context.Context, dir string, secure bool) (*running, error) {
				return b.startIncoming(ctx, dir, secure, append([]string{"--deliver", "none"}, v.args...)...)
			}}
			if s.missing != "" {
				return section{title: "What parts of it cost", text: "Not measured: " + s.missing + "."}, nil
			}
			t, err := b.turn(ctx, s, load{connections: 20, size: small, file: m.file})
			if err != nil {
				return section{}, err
			}
			b.progress("round %d, costs: %-50s %8.0f/s", round+1, s.name, t.rate)
			turns[s.name] = append(turns[s.name], t)
		}
	}
	return b.costsSection(variants, turns, rounds), nil
}

func authenticating(dns string) []string {
	return []string{"--set", "policies=mailauth", "--set", "dns.servers=" + dns}
}

func (b *bench) costsSection(variants []variant, turns map[string][]turn, rounds int) section {
	s := section{
		title: "What parts of it cost",
		text: fmt.Sprintf("The daemon with its journal takes a DKIM-signed message of 4 KB from 20 connections, plain, and keeps it; beside it "+
			"the same daemon with a part switched on. The DNS is a small server of this program on loopback, once with answers that may be "+
			"remembered and once with answers that may not. %s.", plural(rounds, "round")),
	}
	t := table{header: []string{"daemon", "messages/s", "of " + plainName}}
	rates := func(name string) []float64 { return each(turns[name], func(t turn) float64 { return t.rate }) }
	for _, v := range variants {
		share := divide(rates(v.name), rates(plainName))
		t.rows = append(t.rows, []string{v.name, spread(rates(v.name), "%.0f"), spread(share, "%.2f")})
		if v.wants > 0 {
			s.verdicts = append(s.verdicts, hold("Accepting with: "+v.name, atLeast(v.wants, "%.2f", " of "+plainName), share, nil))
		}
	}
	s.tables = []table{t}
	return s
}
