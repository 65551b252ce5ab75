package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/telemetry"
)

// The trouble begins anew with each zone, and is over when none is off any more.
func TestZonesThatAreOffAreOneTrouble(t *testing.T) {
	t.Parallel()
	var told []string
	w := &zoneWatch{log: slog.New(slog.DiscardHandler), trouble: func(e telemetry.Trouble) {
		told = append(told, fmt.Sprint(e.Kind, " ", e.Over, " ", e.Text, " ", e.Err))
	}}
	is := func(want ...string) {
		t.Helper()
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		told = nil
	}
	w.tell("a.example", nil)
	is()
	w.tell("a.example", errors.New("no list"))
	is("dnsbl false the zone a.example is switched off: nobody is refused by it no list")
	w.tell("b.example", errors.New("no answer"))
	is("dnsbl false the zone b.example is switched off: nobody is refused by it no answer")
	w.tell("b.example", nil)
	is()
	w.keep([]config.DNSBL{{Zone: "A.example"}})
	is()
	w.keep([]config.DNSBL{{Zone: "b.example"}})
	is("dnsbl true every zone is in use <nil>")
}

// What is known of the zones goes on over a reload that does not touch them.
func TestBlocklistsGoOnOverAReload(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.DNSBLs = make([]config.DNSBL, 1)
	for _, s := range []string{"dnsbl.zone=bl.example", "dnsbl.codes=127.0.0.2-127.0.0.11,127.0.0.13", "dnsbl.action=fact", "dns.servers=192.0.2.53"} {
		if err := cfg.Set(s); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	first, err := newParts(cfg, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(cfg.PolicyOrder(), " "); got != "dnsbl" || len(first.policies) != 1 {
		t.Fatalf("policies %s", got)
	}
	for change, same := range map[string]bool{"limits.errors=7": true, "dnsbl.action=reject": false, "dnsbl_exempt_networks=192.0.2.0/24": false, "dns.servers=192.0.2.54": false} {
		next := cfg.Clone()
		if err := next.Set(change); err != nil {
			t.Fatal(err)
		}
		again, err := newParts(next, first, log)
		if err != nil {
			t.Fatal(err)
		}
		if (again.dnsbl == first.dnsbl) != same || again.zones != first.zones {
			t.Errorf("%s: the same %t", change, !same)
		}
	}
}
