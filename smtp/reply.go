package smtp

import "fmt"

// Reply is an answer to a command (RFC 5321 §4.2). *Reply is an error: a
// refusal is a value that a Session returns. A *Reply must not be changed once
// returned, so that one may be shared.
type Reply struct {
	// Code is the three-digit code; a Session's refusal is 4xx or 5xx.
	Code int
	// Enhanced is the enhanced status code (RFC 3463); zero sends none.
	Enhanced EnhancedCode
	// Text is what follows. "\n" separates the lines of a multi-line reply.
	// Octets that have no place in a reply are replaced before it is sent.
	Text string
}

// EnhancedCode is class, subject and detail of RFC 3463.
type EnhancedCode [3]int

// String is the reply as a log shows it: "550 5.7.1 No".
func (r *Reply) String() string {
	if r.Enhanced == (EnhancedCode{}) {
		return fmt.Sprintf("%d %s", r.Code, r.Text)
	}
	return fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text)
}

// Error is String, so that a refusal is an error.
func (r *Reply) Error() string { return r.String() }

// Temporary reports whether the client may try again later: 4xx.
func (r *Reply) Temporary() bool { return r.Code/100 == 4 }

func (c EnhancedCode) String() string { return fmt.Sprintf("%d.%d.%d", c[0], c[1], c[2]) }
