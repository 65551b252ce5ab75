package mailauth

import (
	"strings"
)

// record is a DMARC Policy Record (RFC 9989).
type record struct {
	p, sp, np    Disposition // "" when not given
	strictDKIM   bool
	strictSPF    bool
	psd          psd
	testing      bool
	reports      bool // rua names somewhere to report to
	void, broken bool // a policy is not one of the three; void when nothing is left to do
}

// psd is whether a record says that its domain is a public suffix.
type psd int

const (
	psdUnknown psd = iota
	psdNo
	psdYes
)

// parseRecord reads a TXT record; nil when it is no DMARC record. Tags that are not
// known, and values that make no sense, are as if they were not there, save for the
// policies: with one that is none of the three the record asks for nothing, and when
// it does not ask for reports either it does not count.
func parseRecord(text string) *record {
	var r *record
	for tag := range strings.SplitSeq(text, ";") {
		name, value, ok := strings.Cut(tag, "=")
		name, value = strings.ToLower(trimWSP(name)), trimWSP(value)
		if r == nil {
			if !ok || name != "v" || value != "DMARC1" {
				return nil
			}
			r = new(record)
			continue
		}
		if ok {
			r.set(name, strings.ToLower(value))
		}
	}
	switch {
	case r.broken && r.reports:
		r.p, r.sp, r.np = DoNothing, "", ""
	case r.broken:
		r.void = true
	case r.p == "":
		r.p = DoNothing
	}
	return r
}

func (r *record) set(name, value string) {
	switch name {
	case "p":
		r.policy(&r.p, value)
	case "sp":
		r.policy(&r.sp, value)
	case "np":
		r.policy(&r.np, value)
	case "adkim":
		r.strictDKIM = value == "s"
	case "aspf":
		r.strictSPF = value == "s"
	case "t":
		r.testing = value == "y"
	case "psd":
		switch value {
		case "y":
			r.psd = psdYes
		case "n":
			r.psd = psdNo
		}
	case "rua":
		for uri := range strings.SplitSeq(value, ",") {
			scheme, rest, ok := strings.Cut(trimWSP(uri), ":")
			r.reports = r.reports || ok && scheme != "" && rest != ""
		}
	}
}

func (r *record) policy(p *Disposition, value string) {
	switch d := Disposition(value); d {
	case DoNothing, DoQuarantine, DoReject:
		*p = d
	default:
		r.broken = true
	}
}

func trimWSP(s string) string { return strings.Trim(s, " \t") }
