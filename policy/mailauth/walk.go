package mailauth

import (
	"context"
	"errors"
	"strings"

	"github.com/incoming-mx/incoming/policy/resolver"
)

// maxLabels is how many labels of a long name are asked about, save for the whole
// name, so that a walk is eight questions at most (RFC 9989, DNS Tree Walk).
const maxLabels = 7

// walker climbs the DNS in search of DMARC records, for one message.
type walker struct{ dns *budgeted }

// found is a domain with its record.
type found struct {
	domain string
	record *record
}

// at is the one valid record of a domain; nil when it has none.
func (w walker) at(ctx context.Context, domain string) (*record, error) {
	texts, err := w.dns.LookupTXT(ctx, "_dmarc."+domain)
	if err != nil && !notFound(err) {
		return nil, err
	}
	var only *record
	for _, text := range texts {
		r := parseRecord(text)
		if r != nil && only != nil {
			return nil, nil // of several none counts
		}
		if r != nil {
			only = r
		}
	}
	return only, nil
}

// climb is the records at domain and above it, the longest name first. It ends at
// one that says whether it is a public suffix.
func (w walker) climb(ctx context.Context, domain string) ([]found, error) {
	var all []found
	for name := domain; name != ""; name = above(name) {
		r, err := w.at(ctx, name)
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue
		}
		all = append(all, found{name, r})
		if r.psd != psdUnknown {
			break
		}
	}
	return all, nil
}

// above is the next name of a walk; "" behind the last.
func above(name string) string {
	labels := strings.Split(name, ".")
	return strings.Join(labels[max(1, len(labels)-maxLabels):], ".")
}

// organization picks the Organizational Domain of domain from what a climb from
// there found.
func organization(domain string, climbed []found) string {
	for _, f := range climbed {
		switch {
		case f.record.psd == psdNo:
			return f.domain
		case f.record.psd == psdYes && f.domain != domain:
			return oneBelow(domain, f.domain)
		}
	}
	if len(climbed) > 0 {
		return climbed[len(climbed)-1].domain
	}
	return domain
}

// oneBelow is the ancestor of domain, or itself, that is a label longer than suffix.
func oneBelow(domain, suffix string) string {
	rest := strings.TrimSuffix(domain, "."+suffix)
	return rest[strings.LastIndexByte(rest, '.')+1:] + "." + suffix
}

// discovery is the policy that applies to mail of an author's domain.
type discovery struct {
	record *record // nil: none applies
	domain string  // whose record it is
	asked  Disposition
	err    error // the DNS could not tell
}

// discover finds it (RFC 9989, DMARC Policy Discovery): at the author's domain, its
// organization, or the public suffix that it is under, in that order.
func (w walker) discover(ctx context.Context, author string) discovery {
	d := discovery{domain: author}
	if d.record, d.err = w.at(ctx, author); d.err == nil && d.record == nil {
		d.record, d.domain, d.err = w.inherited(ctx, author)
	}
	if d.err != nil || d.record == nil || d.record.void {
		return discovery{err: d.err}
	}
	d.asked = d.record.p
	if d.domain != author {
		d.asked, d.err = w.ofSubdomain(ctx, author, d.record)
	}
	if d.record.testing {
		d.asked = milder(d.asked)
	}
	return d
}

// inherited is the record that applies to a domain which has none of its own.
func (w walker) inherited(ctx context.Context, author string) (*record, string, error) {
	climbed, err := w.climb(ctx, author)
	if err != nil {
		return nil, "", err
	}
	org := organization(author, climbed)
	for _, f := range climbed {
		if f.domain == org || f.record.psd == psdYes {
			return f.record, f.domain, nil
		}
	}
	return nil, "", nil
}

// ofSubdomain is what a record asks for a domain below its own.
func (w walker) ofSubdomain(ctx context.Context, author string, r *record) (Disposition, error) {
	sp := r.p
	if r.sp != "" {
		sp = r.sp
	}
	if r.np == "" || r.np == sp {
		return sp, nil
	}
	_, err := w.dns.LookupTXT(ctx, author)
	switch {
	case errors.Is(err, resolver.ErrNXDomain):
		return r.np, nil
	case err != nil && !notFound(err):
		return "", err
	}
	return sp, nil
}

// milder is one step less, for a domain that is testing its policy.
func milder(d Disposition) Disposition {
	if d == DoReject {
		return DoQuarantine
	}
	return DoNothing
}

// aligned reports whether a domain that was authenticated is of the author's
// organization, or is the author's domain when the policy is strict.
func (w walker) aligned(ctx context.Context, author, domain string, strict bool) (bool, error) {
	if domain == author {
		return true, nil
	}
	if strict || domain == "" {
		return false, nil
	}
	climbed, err := w.climb(ctx, author)
	if err != nil {
		return false, err
	}
	org := organization(author, climbed)
	if domain != org && !strings.HasSuffix(domain, "."+org) {
		return false, nil // what is not under the organization is not of it: no need to ask
	}
	climbed, err = w.climb(ctx, domain)
	return err == nil && organization(domain, climbed) == org, err
}
