package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/incoming-mx/incoming/cmd/incoming/internal/config"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/httppolicy"
	"github.com/incoming-mx/incoming/policy/milter"
	"github.com/incoming-mx/incoming/policy/rspamd"
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

// newRspamd is the policy of [rspamd].
func newRspamd(r config.Rspamd) (policy.Policy, error) {
	return rspamd.New(rspamd.Options{URL: r.URL, Password: r.Password, Timeout: r.Timeout.D, OnFailure: failureActions[r.OnFailure.String()], MaxSize: r.MaxSize.N})
}

// newHTTPPolicy is the policy of [http_policy].
func newHTTPPolicy(h config.HTTPPolicy) (policy.Policy, error) {
	secrets, err := h.AllSecrets()
	if err != nil {
		return nil, err
	}
	o := httppolicy.Options{URL: h.URL, Secrets: secrets, Timeout: h.Timeout.D, OnFailure: failureActions[h.OnFailure.String()]}
	for _, name := range h.Stages {
		o.Stages = append(o.Stages, policy.Stage(slices.Index(config.StageNames(), name.String()))+policy.StageConnect)
	}
	return httppolicy.New(o)
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
	add := func(who, where string, takes time.Duration, onFailure config.OnFailure, observed bool) {
		text := fmt.Sprintf("%s at %s, %v, when it fails %s", who, where, takes, cmp.Or(onFailure.String(), "tempfail"))
		if observed {
			text += ", observed"
		}
		if name, _, _ := strings.Cut(who, " "); cfg.Behind(name) {
			text += ", behind the queue"
		}
		lines = append(lines, text)
	}
	if r := cfg.Rspamd; r.URL != "" {
		add("rspamd", config.Redacted(r.URL), r.Timeout.D, r.OnFailure, cfg.Observes("rspamd"))
	}
	if h := cfg.HTTPPolicy; h.URL != "" {
		add("http_policy", config.Redacted(h.URL), h.Timeout.D, h.OnFailure, cfg.Observes("http_policy"))
	}
	for _, m := range cfg.Milters {
		add("milter "+m.Name, m.Address, m.Spell(), m.OnFailure, m.Observe || cfg.Observes("milter"))
	}
	return lines
}
