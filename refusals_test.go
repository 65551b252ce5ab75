package incoming_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/incoming-mx/incoming"
	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/incomingtest"
	"github.com/incoming-mx/incoming/internal/testcert"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/queue"
	"github.com/incoming-mx/incoming/smtp"
)

// refusing is a server and what a client says to it, all at once, to be refused.
// "EHLO x" and what makes a transaction are written short: see spell.
type refusing struct {
	cfg   incoming.Config
	queue *tamper
	say   string
	held  bool // by another connection, which was there before
}

// spell writes out the abbreviations: HI is a hello, TX a transaction with one
// recipient. A bar is a line end.
func spell(s string) string {
	s = strings.ReplaceAll(s, "TX", "HI|MAIL FROM:<a@example.net>|RCPT TO:<b@example.org>")
	s = strings.ReplaceAll(s, "HI", "EHLO client.test")
	return strings.ReplaceAll(s, "|", "\r\n") + "\r\n"
}

// refusals is dialogues that together meet every refusal there is.
func refusals(t *testing.T) map[string]refusing {
	conf := testcert.NewCA(t).Issue(t, testcert.Options{}).ServerConfig()
	tlsOf := func(mode incoming.TLSMode) incoming.Config {
		return incoming.Config{Listeners: []incoming.Listener{{Name: "mx", Address: "127.0.0.1:0", TLS: mode, TLSConfig: conf}}}
	}
	limits := func(l incoming.Limits) incoming.Config { return incoming.Config{Limits: l} }
	asks := func(ps ...incoming.Policy) incoming.Config { return incoming.Config{Policies: ps} }
	list := func(rule string) incoming.Config {
		file := filepath.Join(t.TempDir(), "access")
		if err := os.WriteFile(file, []byte(rule), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := policy.OpenAccessList(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		return asks(p)
	}
	check := func(err error) *tamper { return &tamper{check: func(int64) error { return err }} }
	begin := func(err error) *tamper { return &tamper{begin: func() error { return err }} }
	boom := policy.OnConnect(func(context.Context, netip.AddrPort, *policy.Transaction) error { panic("a bug") })
	broken := policy.OnMail(func(context.Context, smtp.Path, *policy.Transaction) error { return errors.New("broken") })
	unchecked := policy.OnMail(func(context.Context, smtp.Path, *policy.Transaction) error {
		return policy.Failed(errors.New("down"), policy.FailReject)
	})
	verdict := func(err error) incoming.Config {
		return incoming.Config{Delivery: incoming.Delivery{Accept: incoming.Acceptance{Mode: delivery.Sync}},
			Adapter: incoming.AdapterFunc(func(context.Context, *incoming.Message) error { return err })}
	}
	unknown := func(context.Context, incoming.Address) error {
		return &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "No such recipient here"}
	}
	long := strings.Repeat("x", 300)
	return map[string]refusing{
		"commands": {say: "FOO|NOOP \x01|" + strings.Repeat("x", 5000) + "|EXPN l|XCLIENT ADDR=x|EHLO|HELO|VRFY|RSET x|STARTTLS|QUIT"},
		"order": {cfg: limits(incoming.Limits{Errors: -1}), say: "MAIL FROM:<>|HI|RCPT TO:<b@example.org>|MAIL FROM:<>|MAIL FROM:<>|DATA|RCPT TO:<@>|DATA|" +
			"RCPT TO:<b@example.org>|BDAT 0|DATA|QUIT"},
		"paths": {cfg: limits(incoming.Limits{Errors: -1}), say: "HI|MAIL|MAIL FROM:<a b>|MAIL FROM:<" + long + "@example.net>|MAIL FROM:<j\xc3\xb6@example.net>|" +
			"MAIL FROM:<> FOO=BAR|MAIL FROM:<> BODY=BINARYMIME|MAIL FROM:<> SIZE=x|MAIL FROM:<>|RCPT|RCPT TO:<j\xc3\xb6@example.org>|RCPT TO:<@>|RCPT TO:<" + long + "@example.org>|QUIT"},
		"LMTP": {cfg: incoming.Config{Listeners: []incoming.Listener{{Name: "mx", Address: "127.0.0.1:0", LMTP: true}}},
			say: "EHLO x|MAIL FROM:<>|LHLO|QUIT"},
		"a bad length":         {say: "TX|BDAT x"},
		"a failed chunk":       {cfg: limits(incoming.Limits{MessageSize: 3}), say: "TX|BDAT 5|aaa|DATA|QUIT"},
		"text after refusal":   {say: "DATA|Subject: x"},
		"TLS required":         {cfg: tlsOf(incoming.TLSRequired), say: "HI|MAIL FROM:<>|QUIT"},
		"TLS pipelined":        {cfg: tlsOf(incoming.TLSOptional), say: "STARTTLS|NOOP"},
		"connections":          {cfg: limits(incoming.Limits{Connections: 1}), held: true},
		"connections of one":   {cfg: limits(incoming.Limits{ConnectionsPerIP: 1, Exempt: []netip.Prefix{}}), held: true},
		"too many commands":    {cfg: limits(incoming.Limits{Commands: 1}), say: "NOOP|NOOP"},
		"too many errors":      {cfg: limits(incoming.Limits{Errors: 1}), say: "FOO|FOO"},
		"too many unknown":     {cfg: limits(incoming.Limits{RefusedRecipients: 1}), say: "TX|RCPT TO:<@>|RCPT TO:<@>"},
		"too much":             {cfg: limits(incoming.Limits{SessionSize: 10}), say: "NOOP|NOOP"},
		"too many recipients":  {cfg: limits(incoming.Limits{Recipients: 1}), say: "TX|RCPT TO:<c@example.org>|QUIT"},
		"too big":              {cfg: limits(incoming.Limits{MessageSize: 3}), say: "TX|DATA|abcde|.|QUIT"},
		"header":               {cfg: limits(incoming.Limits{Header: 10}), say: "TX|DATA|Subject: x||.|QUIT"},
		"fields":               {cfg: limits(incoming.Limits{HeaderFields: 1}), say: "TX|DATA|A: x|A: x||.|QUIT"},
		"loop":                 {cfg: limits(incoming.Limits{Received: 1}), say: "TX|DATA|Received: x|Received: x||.|QUIT"},
		"bare":                 {cfg: incoming.Config{RejectBareNewline: prefixes("127.0.0.0/8")}, say: "TX|DATA|a\nb|.|QUIT"},
		"timeout":              {cfg: incoming.Config{Timeouts: incoming.Timeouts{Command: 20 * time.Millisecond}}, say: "HI"},
		"text timeout":         {cfg: incoming.Config{Timeouts: incoming.Timeouts{Data: 20 * time.Millisecond}}, say: "TX|DATA|x"},
		"full":                 {queue: begin(queue.ErrFull), say: "TX|DATA"},
		"closed":               {queue: begin(queue.ErrClosed), say: "TX|DATA"},
		"sick at the banner":   {queue: check(queue.ErrSick)},
		"no space":             {queue: begin(queue.ErrNoSpace), say: "TX|DATA|QUIT"},
		"sick":                 {queue: begin(queue.ErrSick), say: "TX|DATA|QUIT"},
		"an unnamed failure":   {queue: begin(errors.New("the disk burns")), say: "TX|DATA|QUIT"},
		"too large":            {queue: begin(queue.ErrTooLarge), say: "TX|DATA|QUIT"},
		"a bug":                {cfg: asks(boom)},
		"not ours":             {cfg: incoming.Config{Domains: []string{"example.com"}}, say: "TX|QUIT"},
		"unknown":              {cfg: incoming.Config{Recipient: unknown}, say: "TX|QUIT"},
		"denied at connect":    {cfg: list("deny network 127.0.0.0/8")},
		"denied":               {cfg: list("deny sender a@example.net"), say: "TX|QUIT"},
		"too often":            {cfg: asks(policy.RateLimit(&policy.RateLimitOptions{Count: 1})), say: "TX|RSET|MAIL FROM:<>|QUIT"},
		"a domain too often":   {cfg: asks(policy.RateLimit(&policy.RateLimitOptions{SenderCount: 1})), say: "TX|RSET|MAIL FROM:<c@example.net>|QUIT"},
		"a mailbox too often":  {cfg: asks(policy.RateLimit(&policy.RateLimitOptions{RecipientCount: 1})), say: "TX|RSET|TX|QUIT"},
		"a bare name":          {cfg: asks(policy.RequireHello()), say: "EHLO x|MAIL FROM:<>|QUIT"},
		"too large for policy": {cfg: asks(policy.MaxSize(10)), say: "HI|MAIL FROM:<> SIZE=11|QUIT"},
		"a broken policy":      {cfg: asks(broken), say: "TX|QUIT"},
		"a filter is down":     {cfg: asks(unchecked), say: "TX|QUIT"},
		"the adapter rejects":  {cfg: verdict(incoming.Reject(errors.New("no"))), say: "TX|DATA|Subject: x||.|QUIT"},
		"the adapter fails":    {cfg: verdict(errors.New("away")), say: "TX|DATA|Subject: x||.|QUIT"},
	}
}

// Every refusal is one line with its reply and its reason: those that the manual
// lists, and no more than there were.
func TestEveryRefusalIsLoggedWithItsReplyAndReason(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	met := make(map[string]bool)
	t.Run("all", func(t *testing.T) {
		for name, c := range refusals(t) {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				replies := refusedAndLogged(t, c)
				mu.Lock()
				defer mu.Unlock()
				for _, r := range replies {
					met[r] = true
				}
			})
		}
	})
	met["421 4.3.2 mx.test Shutting down"] = true           // TestEach421HasItsReasonInTheLog
	met["503 5.5.1 TLS is already active"] = true           // TestASecondSTARTTLSIsLogged
	met["451 4.3.0 Internal error, try again later"] = true // TestRefusalsAreReported in smtp: a Server has its own
	met["421 4.3.0 mx.test Internal error, try again later"] = true
	met["550 5.7.1 Refused by a mail filter"] = true // TestTheAnswersOfAFilter in policy/milter
	met["451 4.7.1 A mail filter asks to try again later"] = true
	met["550 5.7.1 Your address is listed by ZONE"] = true // TestAListedClientIsToldAtRcpt in policy/dnsbl
	// TestEnforcing and TestTroubleWithTheDNS in policy/mailauth.
	met["550 5.7.1 The domain in From asks for mail like this to be refused (DMARC)"] = true
	met["451 4.4.3 The DNS does not tell who may send for the domain in From, try again later"] = true
	met["550 5.1.1 No such address here"] = true // TestThePolicyRefusesWhatIsForged… in policy/minted
	met["550 5.1.6 This address has expired"] = true
	met["550 5.7.1 Refused as spam"] = true // TestTheActionsOfRspamd in policy/rspamd
	met["451 4.7.1 Try again later"] = true
	met["550 5.7.1 Refused by policy"] = true // TestTheActionsOfAnApplication in policy/httppolicy
	met["451 4.7.1 Deferred by policy, try again later"] = true
	for _, reply := range listedRefusals(t) {
		if !met[reply] {
			t.Errorf("no dialogue of this test meets %q", reply)
		}
	}
}

// refusedAndLogged has a client refused, and is the refusals it read, each of
// which is in the log.
func refusedAndLogged(t *testing.T, c refusing) []string {
	var log logBook
	c.cfg.Hooks = log.hooks()
	if c.queue != nil {
		c.queue.Queue = newQueue(t, nil)
		c.cfg.Queue = c.queue
	}
	srv := incomingtest.NewServer(t, c.cfg)
	if c.held {
		srv.Dial().Expect("220")
	}
	nc, err := net.Dial("tcp", srv.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(incomingtest.Wait)); err != nil {
		t.Fatal(err)
	}
	if c.say != "" {
		if _, err := io.WriteString(nc, spell(c.say)); err != nil {
			t.Fatal(err)
		}
	}
	said, err := io.ReadAll(nc)
	if err != nil {
		t.Fatalf("%v after %q", err, said)
	}
	var read, logged []string
	for line := range strings.Lines(string(said)) {
		if line = strings.TrimSpace(line); line[0] >= '4' {
			read = append(read, line)
		}
	}
	for _, line := range log.lines(t, "refused") {
		logged = append(logged, fmt.Sprint(line["reply"]))
		if line["reason"] == nil || line["stage"] == nil || line["peer"] == nil || line["listener"] == nil {
			t.Errorf("logged %v", line)
		}
	}
	if len(read) == 0 || !slices.Equal(read, logged) {
		t.Errorf("read %q, logged %q", read, logged)
	}
	for i := range read {
		read[i] = withoutRef(read[i])
	}
	return read
}

var manualRefusal = regexp.MustCompile("(?m)^\\| `([45][0-9][0-9] [^`]+)` \\|")

// listedRefusals is those of the manual, as a client reads them here.
func listedRefusals(t *testing.T) (replies []string) {
	page, err := os.ReadFile("docs/replies.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range manualRefusal.FindAllStringSubmatch(string(page), -1) {
		reply := strings.Replace(row[1], "HOST", "mx.test", 1)
		replies = append(replies, strings.Replace(reply, " N ", " 10 ", 1))
	}
	if len(replies) < 50 {
		t.Fatalf("docs/replies.md lists %d refusals", len(replies))
	}
	return replies
}

func TestASecondSTARTTLSIsLogged(t *testing.T) {
	t.Parallel()
	var log logBook
	_, c := log.overTLS(t)
	c.Play("C: STARTTLS\nS: 503 5.5.1 TLS is already active")
	got := log.lines(t, "refused")
	if len(got) != 1 || got[0]["reason"] != "out of order" || got[0]["stage"] != "starttls" {
		t.Errorf("logged %v", got)
	}
}
