package main

import (
	"cmp"
	"fmt"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/milter"
)

// failureActions is what on_failure says; "" is the default.
var failureActions = map[string]policy.FailureAction{"tempfail": policy.FailTempfail, "accept": policy.FailAccept, "reject": policy.FailReject}

// newMilters is a policy for each [[milter]], in their order.
func newMilters(cfg *config.Config) (ps []policy.Policy, _ error) {
	for _, m := range cfg.Milters {
		made, err := milter.New(milter.Options{Address: m.Address, Timeout: m.Timeout.D, OnFailure: failureActions[m.OnFailure.String()], Early: m.Early})
		if err != nil {
			return nil, fmt.Errorf("milter %s: %w", m.Name, err)
		}
		ps = append(ps, policyNamed("milter_"+m.Name, made, m.Observe || cfg.Observes("milter")))
	}
	return ps, nil
}

// policyNamed is p by that name, and only observed where that is asked for.
func policyNamed(name string, p policy.Policy, observe bool) policy.Policy {
	if observe {
		p = policy.Observe(p)
	}
	return policy.Named(name, p)
}

// filtersText is a line for each filter that cfg asks.
func filtersText(cfg *config.Config) (lines []string) {
	for _, m := range cfg.Milters {
		text := fmt.Sprintf("milter %s at %s, %v, when it fails %s", m.Name, m.Address, m.Spell(), cmp.Or(m.OnFailure.String(), "tempfail"))
		if m.Observe || cfg.Observes("milter") {
			text += ", observed"
		}
		lines = append(lines, text)
	}
	return lines
}
