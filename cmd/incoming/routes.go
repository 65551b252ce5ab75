package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/delivery/route"
)

// newTable is the routes of cfg and behind them delivery.to; adapter makes what a
// target means.
func newTable(cfg *config.Config, adapter func(config.Target) (incoming.Adapter, error)) (*route.Table, error) {
	var routes []route.Route
	for _, r := range cfg.Routes {
		made := route.Route{Name: r.Name, Backoff: r.Backoff.D, BackoffCap: r.BackoffCap.D, GiveUp: r.GiveUp.D, MaxAttempts: r.MaxAttempts.N, DeadAge: r.DeadAge.D,
			Accept: acceptance(r.Accept, r.AcceptWithin, r.AcceptKeep)}
		var err error
		if made.When, err = conditions(r); err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Name, err)
		}
		for _, to := range r.To {
			a, err := adapter(to)
			if err != nil {
				return nil, fmt.Errorf("route %s: %w", r.Name, err)
			}
			made.To = append(made.To, route.Destination{Name: to.Redacted(), Adapter: a, AtOnce: r.AtOnce.N})
		}
		routes = append(routes, made)
	}
	rest, err := adapter(cfg.Delivery.To)
	if err != nil {
		return nil, fmt.Errorf("delivery.to: %w", err)
	}
	routes = append(routes, route.Route{Name: config.Rest, To: []route.Destination{{Name: cfg.Delivery.To.Redacted(), Adapter: rest}},
		Accept: acceptanceOf(cfg)})
	return route.New(routes)
}

// acceptanceOf is when senders are answered, but for routes that say otherwise.
func acceptanceOf(cfg *config.Config) delivery.Acceptance {
	d := cfg.Delivery
	return acceptance(d.Accept, d.AcceptWithin, d.AcceptKeep)
}

func acceptance(mode config.AcceptMode, within config.Duration, keep bool) delivery.Acceptance {
	a := delivery.Acceptance{Within: within.D, Keep: keep}
	switch mode.String() {
	case "sync":
		a.Mode = delivery.Sync
	case "hybrid":
		a.Mode = delivery.Hybrid
	}
	return a
}

// conditions is what is given of a route, which must all be met.
func conditions(r config.Route) (when []route.Condition, err error) {
	add := func(c route.Condition, bad error) {
		if bad != nil {
			err = bad
			return
		}
		when = append(when, c)
	}
	if len(r.Domain) > 0 {
		add(route.Domain(r.Domain...))
	}
	if len(r.Address) > 0 {
		add(route.Address(r.Address...))
	}
	if re := r.Plus.Regexp; re != nil {
		add(route.Plus(re), nil)
	}
	if re := r.Recipient.Regexp; re != nil {
		add(route.Recipient(re), nil)
	}
	if re := r.Sender.Regexp; re != nil {
		add(route.Sender(re), nil)
	}
	if len(r.Minted) > 0 {
		add(route.Minted(r.Minted...))
	}
	if r.Quarantined {
		add(route.Quarantined(), nil)
	}
	for _, key := range slices.Sorted(maps.Keys(r.Fact)) {
		v, _ := config.FactValue(r.Fact[key]) // checked with the configuration
		add(route.Fact(key, v), nil)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		add(route.Header(name, r.Header[name].Regexp), nil)
	}
	return when, err
}
