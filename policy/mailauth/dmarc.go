package mailauth

import (
	"context"
)

// evaluate is DMARC's word and the verdict on From, of what SPF and DKIM found. why
// says why there is no author.
func (w walker) evaluate(ctx context.Context, author, why string, d discovery, r *Results) (DMARC, From) {
	if author == "" {
		return DMARC{Result: None, Reason: why}, From{Result: None}
	}
	dmarc := DMARC{Result: None, Domain: author}
	strictDKIM, strictSPF := false, false
	if d.record != nil {
		dmarc.Asked, dmarc.Record = d.asked, d.domain
		strictDKIM, strictSPF = d.record.strictDKIM, d.record.strictSPF
	}
	from, trouble := w.vouch(ctx, author, r, strictDKIM, strictSPF)
	switch {
	case d.err != nil:
		dmarc.Result, dmarc.Reason = TempError, reason(d.err.Error())
		if from.Via != author && from.Result == Pass { // the policy may be a strict one
			from = From{Domain: author, Result: TempError}
		}
	case d.record == nil:
		dmarc.Reason = "no policy applies"
	case from.Result == Pass:
		dmarc.Result = Pass
	case trouble != "":
		dmarc.Result, dmarc.Reason = TempError, trouble
	default:
		dmarc.Result, dmarc.Reason = Fail, "no signature and no path is of the author's organization"
	}
	return dmarc, from
}

// vouch looks for what authenticates the author's domain. trouble is what the DNS
// would not tell of something that might have.
func (w walker) vouch(ctx context.Context, author string, r *Results, strictDKIM, strictSPF bool) (from From, trouble string) {
	from = From{Domain: author, Result: Fail}
	try := func(by string, result Result, domain, why string, strict bool) {
		if from.Result == Pass || result != Pass && result != TempError {
			return
		}
		is, err := w.aligned(ctx, author, domain, strict)
		switch {
		case err != nil:
			trouble = reason(err.Error())
		case is && result == TempError:
			trouble = why
		case is:
			from.Result, from.By, from.Via = Pass, by, domain
		}
	}
	for _, d := range r.DKIM {
		try("dkim", d.Result, d.Domain, d.Reason, strictDKIM)
	}
	try("spf", r.SPF[0].Result, r.SPF[0].Domain, r.SPF[0].Reason, strictSPF)
	if from.Result != Pass && trouble != "" {
		from.Result = TempError
	}
	return from, trouble
}
