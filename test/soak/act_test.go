package soak

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"

	"github.com/incoming-mx/incoming/test/internal/load"
)

// security is how a client speaks.
type security string

const (
	plain    security = "plain"
	starttls security = "STARTTLS"
	implicit security = "implicit TLS"
)

// moment is when a client hangs up.
type moment string

const (
	afterConnect moment = "after connect"
	inHandshake  moment = "in the TLS handshake"
	afterTLS     moment = "after the TLS handshake"
	afterBanner  moment = "after the banner"
	afterHello   moment = "after EHLO"
	afterMail    moment = "after MAIL"
	afterRcpt    moment = "after RCPT"
	beforeText   moment = "after the 354"
	inData       moment = "in the middle of DATA"
	inChunk      moment = "in the middle of a BDAT chunk"
	beforeReply  moment = "before reading the reply"
	never        moment = "after QUIT"
)

var moments = []moment{afterConnect, inHandshake, afterTLS, afterBanner, afterHello, afterMail, afterRcpt, beforeText, inData, inChunk, beforeReply}

// act is what one connection does.
type act struct {
	security security
	hangsUp  moment
	// rude is by an RST, as from a peer that crashed.
	rude bool
}

func (a act) String() string {
	if a.rude {
		return fmt.Sprintf("%s, reset %s", a.security, a.hangsUp)
	}
	return fmt.Sprintf("%s, closed %s", a.security, a.hangsUp)
}

// cycle is every act there is, and as many that do not hang up.
func cycle() (all []act) {
	for _, s := range []security{plain, starttls, implicit} {
		for _, m := range moments {
			if (m == inHandshake || m == afterTLS) && s == plain {
				continue
			}
			all = append(all, act{s, m, false}, act{s, m, true}, act{s, never, false}, act{s, never, false})
		}
	}
	return all
}

// stage is where acts are played.
type stage struct {
	addr   map[security]string
	conf   *tls.Config
	ledger *load.Ledger
}

// play is one connection. An error is the server's fault: up to the moment of
// hanging up all must go well.
func (s *stage) play(ctx context.Context, a act, random *rand.Rand) error {
	c, err := load.Connect(ctx, s.addr[a.security])
	if err != nil {
		return err
	}
	leave := c.Close
	if a.rude {
		leave = c.Reset
	}
	over, err := s.open(ctx, c, a, random)
	for range 1 + random.IntN(4) {
		if over || err != nil {
			break
		}
		over, err = s.transaction(c, a, random)
	}
	if err == nil && !over {
		return c.Quit()
	}
	if lerr := leave(); err == nil && a.hangsUp != inHandshake {
		// In a handshake that was broken off, or on a connection with
		// TLS that is, closing has nothing good to say.
		err = lerr
	}
	return err
}

// open goes as far as the first transaction; over says that it was the moment to
// hang up before that.
func (s *stage) open(ctx context.Context, c *load.Client, a act, random *rand.Rand) (over bool, err error) {
	if a.hangsUp == afterConnect {
		return true, nil
	}
	octets := random.IntN(1600) // a ClientHello has some 1500
	if a.security == implicit {
		if a.hangsUp == inHandshake {
			return true, c.BreakTLS(ctx, s.conf, octets)
		}
		if err := c.TLS(ctx, s.conf); err != nil || a.hangsUp == afterTLS {
			return true, err
		}
	}
	if err := c.Banner(); err != nil || a.hangsUp == afterBanner {
		return true, err
	}
	if err := c.Hello(); err != nil {
		return false, err
	}
	if a.security == starttls {
		if err := c.StartTLS(); err != nil {
			return false, err
		}
		if a.hangsUp == inHandshake {
			return true, c.BreakTLS(ctx, s.conf, octets)
		}
		if err := c.TLS(ctx, s.conf); err != nil || a.hangsUp == afterTLS {
			return true, err
		}
		if err := c.Hello(); err != nil {
			return false, err
		}
	}
	return a.hangsUp == afterHello, nil
}

// transaction sends a message, or less of it.
func (s *stage) transaction(c *load.Client, a act, random *rand.Rand) (over bool, err error) {
	m := s.ledger.Next()
	if err := c.Mail(m); err != nil || a.hangsUp == afterMail {
		return true, err
	}
	if err := c.Rcpt(); err != nil || a.hangsUp == afterRcpt {
		return true, err
	}
	chunk := 1 + m.Size/4 + random.IntN(m.Size)
	octets := random.IntN(m.Size)
	switch {
	case a.hangsUp == beforeText:
		return true, c.Data(m, 0)
	case a.hangsUp == inData:
		return true, c.Data(m, octets)
	case a.hangsUp == inChunk:
		return true, c.Chunks(m, chunk, octets)
	case m.Binary || random.IntN(2) == 0:
		err = c.Chunks(m, chunk, m.Size)
	default:
		err = c.Data(m, m.Size)
	}
	if err != nil || a.hangsUp == beforeReply {
		return true, err
	}
	if err := c.Verdict(); err != nil {
		return true, fmt.Errorf("message %d of %d octets: %w", m.Number, m.Size, err)
	}
	s.ledger.Accepted(m)
	return false, nil
}
