package main

import (
	"log/slog"
	"reflect"
	"slices"
	"sync"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/internal/mailbox"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/dnsbl"
	"github.com/incoming-mx/incoming/policy/resolver"
	"github.com/incoming-mx/incoming/telemetry"
)

// dnsbls is the policy dnsbl and what it was made from: a reload that does not
// change it keeps what it knows of its zones.
type dnsbls struct {
	zones    []config.DNSBL
	exempt   []config.Network
	resolver resolver.Resolver
	policy   policy.Policy
}

func (p *parts) newDNSBLs(cfg *config.Config, old *parts) (*dnsbls, error) {
	r, err := p.resolver(cfg, old)
	if err != nil {
		return nil, err
	}
	if old != nil && old.dnsbl != nil && old.dnsbl.resolver == r &&
		reflect.DeepEqual(old.dnsbl.zones, cfg.DNSBLs) && slices.Equal(old.dnsbl.exempt, cfg.DNSBLExempt) {
		return old.dnsbl, nil
	}
	var zones []dnsbl.Zone
	for _, z := range cfg.DNSBLs {
		zones = append(zones, dnsbl.Zone{Name: z.Zone, Codes: z.Codes, Action: dnsbl.Action(z.Action.String())})
	}
	made, err := dnsbl.New(r, zones, &dnsbl.Options{Exempt: prefixes(cfg.DNSBLExempt), OnZone: p.zones.tell})
	if err != nil {
		return nil, err
	}
	return &dnsbls{cfg.DNSBLs, cfg.DNSBLExempt, r, made}, nil
}

// zoneWatch tells of the zones that are switched off: one trouble, which begins anew
// with each zone and ends when none is off any more.
type zoneWatch struct {
	log     *slog.Logger
	trouble func(telemetry.Trouble) // nil until the hooks are made

	mu  sync.Mutex
	off []string
}

// tell is told by the policy how a zone stands.
func (w *zoneWatch) tell(zone string, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if why == nil {
		w.end([]string{zone})
		return
	}
	if !slices.Contains(w.off, zone) {
		w.off = append(w.off, zone)
	}
	telemetry.Emit(w.trouble, telemetry.Trouble{Kind: "dnsbl", Text: "the zone " + zone + " is switched off: nobody is refused by it", Err: why})
}

// keep forgets the zones that are not asked any more.
func (w *zoneWatch) keep(asked []config.DNSBL) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var gone []string
	for _, zone := range w.off {
		if !slices.ContainsFunc(asked, func(d config.DNSBL) bool { return mailbox.Fold(d.Zone) == zone }) {
			gone = append(gone, zone)
		}
	}
	w.end(gone)
}

// end takes zones off the list; its caller holds mu.
func (w *zoneWatch) end(zones []string) {
	before := len(w.off)
	w.off = slices.DeleteFunc(w.off, func(zone string) bool { return slices.Contains(zones, zone) })
	switch {
	case len(w.off) == before:
	case len(w.off) == 0:
		telemetry.Emit(w.trouble, telemetry.Trouble{Kind: "dnsbl", Text: "every zone is in use", Over: true})
	default:
		w.log.Info("dnsbl: a zone is in use again, or not asked any more", "zones", zones)
	}
}
