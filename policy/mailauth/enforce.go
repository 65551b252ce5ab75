package mailauth

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/incoming-mx/incoming/policy"
)

// judge decides what is done, writes it into the results, and is the policy's
// answer.
func (v *Verifier) judge(t *policy.Transaction, r *Results) error {
	r.DMARC.Disposition = DoNothing
	rule := ""
	switch {
	case v.opts.DeferTemperror && r.From.Result != Pass && (r.DMARC.Result == TempError || r.From.Result == TempError):
		r.DMARC.Disposition, rule = DoDefer, "temperror"
	case r.DMARC.Result == Fail && r.DMARC.Asked == DoQuarantine:
		r.DMARC.Disposition, rule = DoQuarantine, "p=quarantine"
	case r.DMARC.Result == Fail && r.DMARC.Asked == DoReject:
		r.DMARC.Disposition, rule = DoReject, "p=reject"
		if excuse := v.excuse(t, r); excuse != "" {
			r.DMARC.Disposition, rule = DoQuarantine, "p=reject, "+excuse
		}
	}
	var answer error
	switch {
	case r.DMARC.Disposition == DoDefer:
		answer = fmt.Errorf("DMARC: %s is %s, From %s: %w", r.DMARC.Domain, r.DMARC.Result, r.From.Result, replyTemperror)
	case !v.opts.Enforce:
		return nil
	case r.DMARC.Disposition == DoQuarantine:
		answer = policy.Quarantine("DMARC: " + r.DMARC.Domain + " fails, " + rule)
	case r.DMARC.Disposition == DoReject:
		answer = fmt.Errorf("DMARC: %s fails, %s: %w", r.DMARC.Domain, rule, replyDMARC)
	}
	return policy.Because(answer, rule, slog.String("from", r.DMARC.Domain), slog.String("record", r.DMARC.Record),
		slog.String("spf", string(r.SPF[0].Result)+" "+r.SPF[0].Domain), slog.String("dkim", summary(r.DKIM)))
}

// excuse is what speaks for a message that was forwarded, whose signature or path is
// bound to break; "" when nothing does.
func (v *Verifier) excuse(t *policy.Transaction, r *Results) string {
	for _, d := range r.DKIM {
		if d.Result == Pass {
			return "signed by " + d.Domain
		}
	}
	for _, name := range []string{"List-Id", "List-Post", "List-Unsubscribe", "Mailing-List"} {
		if t.Header.Has(name) {
			return "sent through a list"
		}
	}
	peer := t.Peer.Addr().Unmap()
	for _, p := range v.opts.Forwarders {
		if p.Contains(peer) {
			return "sent by a listed forwarder"
		}
	}
	for _, d := range v.opts.ForwarderDomains {
		if name := r.IPRev.Name; name != "" && (name == d || strings.HasSuffix(name, "."+d)) {
			return "sent by a listed forwarder"
		}
	}
	return ""
}

func summary(all []DKIM) string {
	if len(all) == 0 {
		return string(None)
	}
	each := make([]string, len(all))
	for i, d := range all {
		each[i] = string(d.Result) + " " + d.Domain
	}
	return strings.Join(each, ", ")
}
