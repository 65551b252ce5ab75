package mailauth

import (
	"context"
	"errors"
	"net"
	"strings"

	"blitiri.com.ar/go/spf"
)

// checkSPF asks whether the domain of id lets the client send for it.
func (c *check) checkSPF(ctx context.Context, id SPF) SPF {
	switch {
	case !c.peer.IsValid():
		id.Result, id.Reason = None, "the client has no IP address"
		return id
	case id.Domain == "":
		id.Result, id.Reason = None, "no domain to ask about"
		return id
	}
	sender := "postmaster@" + id.Domain // RFC 7208 §4.3
	if id.Identity == MailFrom && c.from.Local != "" {
		// The library takes the domain to begin at the first "@", of which a
		// quoted local part may have more.
		sender = strings.ReplaceAll(c.from.Local, "@", "_") + "@" + id.Domain
	}
	got, err := spf.CheckHostWithSender(net.IP(c.peer.AsSlice()), c.helo, sender, spf.WithContext(ctx), spf.WithResolver(c.dns))
	id.Result = spfResult(got)
	if err != nil && !errors.Is(err, spf.ErrNoResult) {
		id.Reason = reason(err.Error())
	}
	return id
}

// spfResult is a result of the library in ours; one that it may add is an error of
// ours, never a pass.
func spfResult(r spf.Result) Result {
	switch r {
	case spf.None:
		return None
	case spf.Neutral:
		return Neutral
	case spf.Pass:
		return Pass
	case spf.Fail:
		return Fail
	case spf.SoftFail:
		return SoftFail
	case spf.PermError:
		return PermError
	}
	return TempError
}
