package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// ask asks the servers, each in turn, until one gives an answer.
func (c *Cache) ask(ctx context.Context, q question) answer {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.kind)
	m.SetEdns0(1232, false)
	failed := errors.New("no answer")
	for range rounds {
		for _, server := range c.servers {
			got, err := c.exchange(ctx, m, server)
			if err != nil {
				failed = err
				continue
			}
			switch got.Rcode {
			case dns.RcodeSuccess, dns.RcodeNameError:
				return read(q, got)
			}
			failed = errors.New(strings.ToLower(dns.RcodeToString[got.Rcode]))
		}
	}
	var timeout net.Error
	return answer{keep: brokenFor, err: &net.DNSError{Err: failed.Error(), Name: q.name, IsTemporary: true,
		IsTimeout: errors.As(failed, &timeout) && timeout.Timeout()}}
}

// exchange is one question to one server.
func (c *Cache) exchange(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	for _, network := range []string{"udp", "tcp"} {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		client := dns.Client{Net: network, Timeout: c.timeout}
		m.Id = dns.Id()
		got, _, err := client.ExchangeContext(ctx, m, server)
		cancel()
		if err != nil {
			return nil, err
		}
		if len(got.Question) != 1 || !strings.EqualFold(got.Question[0].Name, m.Question[0].Name) || got.Question[0].Qtype != m.Question[0].Qtype {
			return nil, fmt.Errorf("%s answered another question", server)
		}
		if !got.Truncated {
			return got, nil
		}
	}
	return nil, fmt.Errorf("%s cut its answer short by TCP too", server)
}

// read follows the CNAMEs of an answer to its records.
func read(q question, got *dns.Msg) answer {
	keep := longestTTL
	name := q.name
	for range maxChain {
		var records []dns.RR
		next := ""
		for _, rr := range got.Answer {
			h := rr.Header()
			if !strings.EqualFold(h.Name, name) {
				continue
			}
			switch {
			case h.Rrtype == q.kind:
				records = append(records, rr)
			case h.Rrtype == dns.TypeCNAME:
				next = rr.(*dns.CNAME).Target
			default:
				continue
			}
			keep = min(keep, time.Duration(h.Ttl)*time.Second)
		}
		if len(records) > 0 {
			return answer{records: records, keep: keep}
		}
		if next == "" {
			return nothing(q, got, keep)
		}
		name = next
	}
	return answer{keep: brokenFor, err: &net.DNSError{Err: "too many CNAMEs", Name: q.name}}
}

// nothing is the answer that there are no such records, for as long as the zone
// says (RFC 2308 §5).
func nothing(q question, got *dns.Msg, keep time.Duration) answer {
	keep = min(keep, longestNegative)
	found := false
	for _, rr := range got.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			keep, found = min(keep, time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second), true
		}
	}
	if !found {
		keep = min(keep, brokenFor)
	}
	err := &net.DNSError{Err: "no such record", Name: q.name, IsNotFound: true}
	if got.Rcode == dns.RcodeNameError {
		err.Err, err.UnwrapErr = ErrNXDomain.Error(), ErrNXDomain
	}
	return answer{keep: keep, err: err}
}
