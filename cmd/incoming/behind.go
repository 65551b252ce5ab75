package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/delivery/filter"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/telemetry"
)

// behindWatch tells what filters behind the queue decide.
type behindWatch struct {
	decided func(telemetry.PolicyDecision) // nil: nobody listens
}

// filtered is the adapter behind the filters of delivery.filters; one that is nil,
// and one that none is for, as it is.
func (p *parts) filtered(to incoming.Adapter, cfg *config.Config, old *parts, log *slog.Logger) (incoming.Adapter, error) {
	if to == nil || len(cfg.Delivery.Filters) == 0 {
		return to, nil
	}
	var policies []policy.Policy
	for _, f := range cfg.Delivery.Filters {
		made, err := p.named("delivery.filters:", f.String(), cfg, old, log)
		if err != nil {
			return nil, err
		}
		policies = append(policies, made...)
	}
	hostname := cfg.Hostname.String()
	if hostname == "" {
		var err error
		if hostname, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("hostname: %w", err)
		}
	}
	return filter.New(to, policies, &filter.Options{Hostname: hostname,
		Chain: policy.ChainOptions{Timeout: cfg.Timeouts.Policy.D, OnDecision: p.behind.tell}}), nil
}

// tell is a decision as those of a session are, at the stage delivery.
func (b *behindWatch) tell(t *policy.Transaction, d policy.Decision) {
	telemetry.Emit(b.decided, telemetry.PolicyDecision{
		Session: telemetry.Session{Listener: t.Listener, Peer: t.Peer, Hello: t.Hello}, ID: t.ID,
		Policy: d.Policy, Stage: "delivery", Decision: string(d.Kind), Reason: d.Reason, Duration: d.Took, Observed: d.Observed,
		Because: telemetry.Because{Rule: d.Rule, Inputs: d.Inputs, Took: d.Took},
	})
}
