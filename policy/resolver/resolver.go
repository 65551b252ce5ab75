// Package resolver asks the DNS for what policies want to know: an interface that
// *net.Resolver has too, and a resolver that remembers answers for as long as the
// DNS says.
package resolver

import (
	"context"
	"errors"
	"net"
)

// Resolver is what policies ask. *net.Resolver is one, and so is *Cache. Its errors
// are *net.DNSError: IsNotFound says that there is no such name or record, which is
// an answer; any other error says that it cannot be told now. Names are absolute,
// with or without the last dot.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	// LookupIP takes "ip", "ip4" or "ip6".
	LookupIP(ctx context.Context, network, host string) ([]net.IP, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	// LookupAddr takes an address and returns names with their last dot.
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// ErrNXDomain is within the error of a Cache when there is no such name, nor any
// below it (RFC 8020), and not only no such record. *net.Resolver does not tell.
var ErrNXDomain = errors.New("no such name")

var (
	_ Resolver = (*net.Resolver)(nil)
	_ Resolver = (*Cache)(nil)
)
