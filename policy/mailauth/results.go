package mailauth

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Fact is the key under which the Results of a message are among its facts.
const Fact = "mailauth.results"

// Result is what a mechanism came to, by the name that RFC 8601 §2.7 gives it.
type Result string

const (
	None      Result = "none"      // there was nothing to check
	Pass      Result = "pass"      // it is so
	Fail      Result = "fail"      // it is not so
	SoftFail  Result = "softfail"  // SPF: the domain thinks it is not so
	Neutral   Result = "neutral"   // SPF: the domain will not say; DKIM: it cannot be read
	Policy    Result = "policy"    // DKIM: it may verify, and is not taken for that
	TempError Result = "temperror" // the DNS could not be asked: it may be told later
	PermError Result = "permerror" // what the domain publishes, or what was sent, makes no sense
)

// Results is what is known of who sent a message. Domains are in A-labels and
// lower case. It is stored as JSON: a name, once given, keeps its meaning.
type Results struct {
	// SPF holds the identity that counts first: MAIL FROM's, or HELO's for a
	// bounce, which has no other; and HELO's behind MAIL FROM's. It is never
	// empty.
	SPF []SPF `json:"spf"`
	// DKIM is one for each signature, in the order of the header, eight at most;
	// empty when there is none.
	DKIM  []DKIM `json:"dkim,omitempty"`
	DMARC DMARC  `json:"dmarc"`
	IPRev IPRev  `json:"iprev"`
	// From is the verdict on the author's domain.
	From From `json:"from"`
}

// SPF is what one identity came to (RFC 7208 §2.6).
type SPF struct {
	Identity Identity `json:"identity"`
	Result   Result   `json:"result"`
	Domain   string   `json:"domain,omitempty"`
	Reason   string   `json:"reason,omitempty"`
}

// Identity is whose domain SPF was asked about.
type Identity string

const (
	MailFrom Identity = "mailfrom" // the domain of MAIL FROM
	Helo     Identity = "helo"     // the name in EHLO or HELO
)

// DKIM is what one signature came to (RFC 6376 §3.9).
type DKIM struct {
	Result   Result `json:"result"`
	Domain   string `json:"domain,omitempty"`   // d=
	Selector string `json:"selector,omitempty"` // s=
	// Signature is the first eight letters of b=, by which signatures of one
	// domain are told apart (RFC 6008).
	Signature string `json:"signature,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// DMARC is what the author's domain asks for (RFC 9989).
type DMARC struct {
	// Result is none when no policy applies, and for a message whose From names
	// several domains or none.
	Result Result `json:"result"`
	Domain string `json:"domain,omitempty"` // the author's
	// Asked is what the domain wants done with mail that fails: none, quarantine
	// or reject, one step less where it says that it is testing (t=y); "" when
	// no policy applies.
	Asked Disposition `json:"asked,omitempty"`
	// Record is the domain whose record it is: the author's or one above it.
	Record string `json:"record,omitempty"`
	// Disposition is what is done, and what would be where mailauth only
	// observes.
	Disposition Disposition `json:"disposition,omitempty"`
	Reason      string      `json:"reason,omitempty"`
}

// Disposition is what is done with a message.
type Disposition string

const (
	DoNothing    Disposition = "none"
	DoQuarantine Disposition = "quarantine"
	DoReject     Disposition = "reject"
	DoDefer      Disposition = "tempfail"
)

// IPRev is whether the name of the client's address leads back to it (RFC 8601 §3).
type IPRev struct {
	Result Result `json:"result"`
	Name   string `json:"name,omitempty"` // the name that leads back; "" unless it passes
	Reason string `json:"reason,omitempty"`
}

// From is the verdict on the domain in the From field, for those who want one
// answer: pass when DKIM or SPF vouches for that very organization, whatever policy
// the domain publishes.
type From struct {
	Domain string `json:"domain,omitempty"` // "" when From names none, or several
	Result Result `json:"result"`
	// By is what vouches, "dkim" or "spf", and Via the domain by which it does.
	By  string `json:"by,omitempty"`
	Via string `json:"via,omitempty"`
}

// brief is the results without their reasons, for a message whose facts are nearly
// too many.
func (r *Results) brief() *Results {
	b := *r
	b.SPF, b.DKIM = slices.Clone(r.SPF), slices.Clone(r.DKIM)
	for i := range b.SPF {
		b.SPF[i].Reason = ""
	}
	for i := range b.DKIM {
		b.DKIM[i].Reason = ""
	}
	b.DMARC.Reason, b.IPRev.Reason = "", ""
	return &b
}

// maxReason bounds a reason, so that all results are far below policy.MaxFacts.
const maxReason = 160

// reason makes text of elsewhere fit for a fact, a log and a header field:
// printable ASCII, and not long, nor in JSON, which has six octets for a "<".
func reason(s string) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= maxReason {
			break
		}
		if r < ' ' || r >= utf8.RuneSelf-1 || strings.ContainsRune("<>&", r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
