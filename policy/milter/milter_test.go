package milter

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	gomilter "github.com/d--j/go-milter"

	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/policy/internal/policytest"
)

const message = "Subject:  two spaces\r\nX-Long: one\r\n\ttwo\r\n\r\nbody\r\n"

// D22: version 6, macros at each stage, and the fields and the body as they are.
func TestAFilterIsToldAllThatItIsToKnow(t *testing.T) {
	t.Parallel()
	f := &filter{}
	tx := transaction(message, "b@y.example", "c@z.example")
	tx.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	tx.To[1].Params.Notify = "NEVER"
	if told, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{Address: f.serve(t)})); err != nil || told != nil {
		t.Fatalf("%v, told %+v", err, told)
	}
	want := `connect unknown tcp4 4711 192.0.2.7: j=mx.test v=Incoming _=unknown [192.0.2.7] {daemon_name}=mx {client_addr}=192.0.2.7 {client_name}=unknown {client_port}=4711
hello c.example: {tls_version}=TLSv1.3 {cipher}=TLS_AES_128_GCM_SHA256 {cipher_bits}=128
mail a@x.example "SIZE=12 BODY=8BITMIME": i=01ID {mail_addr}=a@x.example {mail_host}=x.example {mail_mailer}=esmtp
rcpt b@y.example "": {rcpt_addr}=b@y.example {rcpt_host}=y.example {rcpt_mailer}=esmtp
rcpt c@z.example "NOTIFY=NEVER": {rcpt_addr}=c@z.example {rcpt_host}=z.example {rcpt_mailer}=esmtp
data
header Subject " two spaces"
header X-Long "one\n\ttwo"
end of header`
	if got := f.told(); got != want {
		t.Errorf("it heard\n%s\nwant\n%s", got, want)
	}
	if got := f.body.String(); got != "body\r\n" {
		t.Errorf("body %q", got)
	}
}

// D22: a filter that asks for macros is given those; "i" and "{i}" are one, and come by the name they were asked by.
func TestAFilterThatAsksForMacrosIsGivenThose(t *testing.T) {
	t.Parallel()
	f := &filter{protocol: gomilter.OptHeaderLeadingSpace,
		ask: map[gomilter.MacroStage][]string{gomilter.StageConnect: {"{i}", "client_addr", "{auth_type}"}}}
	if _, err := policytest.Judged(t, policy.StageMessage, transaction(message), made(t, Options{Address: f.serve(t)})); err != nil {
		t.Fatal(err)
	}
	told := f.told()
	if !strings.Contains(told, "4711 192.0.2.7: {i}=01ID client_addr=192.0.2.7\n") {
		t.Errorf("it heard\n%s", told)
	}
	if !strings.Contains(told, `header Subject "  two spaces"`) {
		t.Errorf("the space that it asked for is not there:\n%s", told)
	}
}

func TestAClientWithoutAnAddressIsTold(t *testing.T) {
	t.Parallel()
	for peer, want := range map[string]string{"": "connect unknown unknown 0 : ", "[2001:db8::1]:25": "connect unknown tcp6 25 2001:db8::1: ",
		"[::ffff:192.0.2.7]:25": "connect unknown tcp4 25 192.0.2.7: "} {
		f := &filter{}
		tx := transaction(message)
		tx.Peer = netip.AddrPort{}
		if err := tx.Peer.UnmarshalText([]byte(peer)); err != nil {
			t.Fatal(err)
		}
		if _, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{Address: f.serve(t)})); err != nil {
			t.Fatal(err)
		}
		if told := f.told(); !strings.HasPrefix(told, want) {
			t.Errorf("%q: it heard\n%s", peer, told)
		}
	}
}

// D22: chunks of 65535 octets, a long field, and no more once it has enough.
func TestALongMessageStreamsInChunks(t *testing.T) {
	t.Parallel()
	const chunk = 65535
	head := "Subject: " + strings.Repeat("x", 70000) + "\r\n\r\n"
	for n, want := range map[int]string{0: "[0]", 1: "[1]", chunk - 1: "[65534]", chunk: "[65535]", chunk + 1: "[65535 1]", 3 * chunk: "[65535 65535 65535]"} {
		f := &filter{}
		if told, err := policytest.Judged(t, policy.StageMessage, transaction(head+strings.Repeat("y", n)), made(t, Options{Address: f.serve(t)})); err != nil {
			t.Fatal(n, err, told)
		}
		if got := fmt.Sprint(f.sizes); got != want || f.body.Len() != n {
			t.Errorf("%d octets came as %s", n, got)
		}
		if told := f.told(); !strings.Contains(told, "header Subject \""+strings.Repeat("x", chunk-1-len("Subject\x00\x00"))) {
			t.Errorf("the long field was not told as far as it fits")
		}
	}
	f := &filter{chunk: gomilter.RespSkip, protocol: gomilter.OptSkip}
	if _, err := policytest.Judged(t, policy.StageMessage, transaction(head+strings.Repeat("y", 3*chunk)), made(t, Options{Address: f.serve(t)})); err != nil || len(f.sizes) != 1 {
		t.Errorf("after skip: %v, chunks %v", err, f.sizes)
	}
	f = &filter{protocol: gomilter.OptNoBody}
	tx := transaction(head)
	tx.OpenText = func() (io.ReadCloser, error) { return nil, errors.New("nobody wants the text") }
	if told, err := policytest.Judged(t, policy.StageMessage, tx, made(t, Options{Address: f.serve(t)})); err != nil {
		t.Errorf("without the body: %v %v", err, told)
	}
}

func TestTheBodyBeginsBehindTheHeader(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                      "",
		"\r\n":                  "",
		"\r\nx":                 "x",
		"no header":             "no header",
		"A: 1\r\nno more\r\n":   "no more\r\n",
		"A: 1\r\n":              "",
		"A: 1":                  "",
		"A: 1\n\nx\n":           "x\n",
		"A: 1\r\n\r\n\r\nx\r\n": "\r\nx\r\n",
		"A: a\x00b\r\n\r\nx":    "x",
	} {
		f := &filter{}
		if told, err := policytest.Judged(t, policy.StageMessage, transaction(text), made(t, Options{Address: f.serve(t)})); err != nil {
			t.Errorf("%q: %v %v", text, err, told)
		}
		if got := f.body.String(); got != want {
			t.Errorf("%q: body %q, want %q", text, got, want)
		}
		if strings.Contains(f.told(), `\x00`) || strings.Contains(text, "\x00") && !strings.Contains(f.told(), `header A "ab"`) {
			t.Errorf("%q: it heard\n%s", text, f.told())
		}
	}
}

// What a filter answers is done, wherever it says it.
func TestTheAnswersOfAFilter(t *testing.T) {
	t.Parallel()
	words := func(code uint16, text string) *gomilter.Response {
		r, err := gomilter.RejectWithCodeAndReason(code, text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	end := func(r *gomilter.Response) func(gomilter.Modifier) (*gomilter.Response, error) {
		return func(gomilter.Modifier) (*gomilter.Response, error) { return r, nil }
	}
	at := func(r *gomilter.Response) func(string) *gomilter.Response {
		return func(string) *gomilter.Response { return r }
	}
	mark := func(m gomilter.Modifier) (*gomilter.Response, error) {
		return gomilter.RespAccept, m.Quarantine("looks odd")
	}
	for name, c := range map[string]struct {
		f     *filter
		reply string // "" is none
		kind  policy.Kind
		rule  string
	}{
		"goes on at the end":      {&filter{end: end(gomilter.RespContinue)}, "", "", ""},
		"accepts at the end":      {&filter{}, "", "", ""},
		"accepts at connect":      {&filter{connect: gomilter.RespAccept, end: end(gomilter.RespReject)}, "", "", ""},
		"accepts at a chunk":      {&filter{chunk: gomilter.RespAccept, end: end(gomilter.RespReject)}, "", "", ""},
		"rejects at connect":      {&filter{connect: gomilter.RespReject}, "550 5.7.1 Refused by a mail filter", policy.Rejected, "reject"},
		"defers at mail":          {&filter{mail: gomilter.RespTempFail}, "451 4.7.1 A mail filter asks to try again later", policy.Deferred, "tempfail"},
		"rejects one rcpt":        {&filter{rcpt: at(gomilter.RespReject)}, "550 5.7.1 Refused by a mail filter", policy.Rejected, "reject"},
		"discards at rcpt":        {&filter{rcpt: at(gomilter.RespDiscard)}, "", policy.Discarded, "discard"},
		"rejects at a field":      {&filter{header: gomilter.RespReject}, "550 5.7.1 Refused by a mail filter", policy.Rejected, "reject"},
		"rejects at a chunk":      {&filter{chunk: gomilter.RespReject}, "550 5.7.1 Refused by a mail filter", policy.Rejected, "reject"},
		"rejects at the end":      {&filter{end: end(gomilter.RespReject)}, "550 5.7.1 Refused by a mail filter", policy.Rejected, "reject"},
		"discards at the end":     {&filter{end: end(gomilter.RespDiscard)}, "", policy.Discarded, "discard"},
		"quarantines":             {&filter{end: mark}, "", policy.Quarantined, "quarantine"},
		"says no":                 {&filter{end: end(words(554, "5.7.0 100% spam"))}, "554 5.7.0 100% spam", policy.Rejected, "reply"},
		"says later":              {&filter{end: end(words(450, "4.7.25 no name"))}, "450 4.7.25 no name", policy.Deferred, "reply"},
		"says no in many lines":   {&filter{end: end(words(550, "5.7.1 one\ntwo"))}, "550 5.7.1 one\ntwo", policy.Rejected, "reply"},
		"says no, of a class":     {&filter{end: end(words(451, "5.7.1 which?"))}, "451 4.7.1 which?", policy.Deferred, "reply"},
		"says no in strange ways": {&filter{mail: words(550, "n\xc3\xb6")}, "550 5.7.1 n??", policy.Rejected, "reply"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told, err := policytest.Judged(t, policy.StageMessage, transaction(message), made(t, Options{Address: c.f.serve(t)}))
			if got := policytest.Replied(err); got != c.reply {
				t.Errorf("replied %q, want %q (%v)", got, c.reply, told)
			}
			if c.kind == "" {
				if told != nil {
					t.Errorf("told %+v", told)
				}
			} else if len(told) != 1 || told[0].Kind != c.kind || told[0].Rule != c.rule || told[0].Policy != "milter" || len(told[0].Inputs) != 1 {
				t.Errorf("told %+v", told)
			}
		})
	}
}

func TestAFilterThatIsEarlyIsAskedOfEachRecipient(t *testing.T) {
	t.Parallel()
	f := &filter{rcpt: func(to string) *gomilter.Response {
		if to == "c@y.example" {
			return gomilter.RespReject
		}
		return nil
	}}
	address := f.serve(t)
	late, early := made(t, Options{Address: address}), made(t, Options{Address: address, Early: true})
	for to, refused := range map[string]bool{"b@y.example": false, "c@y.example": true} {
		tx := transaction("", "first@y.example", to)
		if err := late.Check(t.Context(), policy.StageRcpt, tx); err != nil {
			t.Errorf("one that is not early: %v", err)
		}
		if err := early.Check(t.Context(), policy.StageRcpt, tx); (err != nil) != refused {
			t.Errorf("%s: %v", to, err)
		}
	}
	if told := f.told(); strings.Contains(told, "first@y") || strings.Contains(told, "data") {
		t.Errorf("it heard\n%s", told)
	}
	if !early.Asks(policy.StageRcpt) || !early.Asks(policy.StageMessage) || late.Asks(policy.StageRcpt) || late.Asks(policy.StageMail) {
		t.Error("the stages are not right")
	}
}

// optneg is a filter's side of a negotiation.
func optneg(version, actions, protocol uint32) []byte {
	b := []byte{0, 0, 0, 13, 'O'}
	for _, v := range []uint32{version, actions, protocol} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// packet is one of a filter's.
func packet(code byte, data string) []byte {
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(len(data)+1)), code), data...)
}

// noReplies makes a filter be asked for nothing but the end.
const noReplies = uint32(gomilter.OptNoConnect | gomilter.OptNoHelo | gomilter.OptNoMailFrom | gomilter.OptNoRcptTo | gomilter.OptNoBody |
	gomilter.OptNoHeaders | gomilter.OptNoEOH | gomilter.OptNoUnknown | gomilter.OptNoData)

// answers is a filter that takes the negotiation, then answers with the packets.
func answers(packets ...[]byte) func(net.Conn) {
	return func(nc net.Conn) {
		first := make([]byte, 17)
		if _, err := io.ReadFull(nc, first); err != nil {
			return
		}
		nc.Write(bytes.Join(packets, nil)) // the client may have had enough
		io.Copy(io.Discard, nc)
	}
}

// D19, D20: what a filter does that is not well is its failure, told and done as
// configured, and never a discard or a pass that nobody asked for.
func TestAFilterThatIsNotWellHasFailed(t *testing.T) {
	t.Parallel()
	well := optneg(6, uint32(offered), noReplies)
	one := func(data string, rest ...byte) string { return data + string(rest) }
	for name, c := range map[string]struct {
		address string
		rule    string
		reason  string // of which the reason has this
	}{
		"nobody listens":         {"inet:127.0.0.1:1", "failed", "connect: "},
		"no such socket":         {"unix:" + t.TempDir() + "/none", "failed", "connect: "},
		"closes at once":         {raw(t, func(net.Conn) {}), "failed", "connect: "},
		"closes after a while":   {raw(t, func(nc net.Conn) { nc.Write(well); io.CopyN(io.Discard, nc, 20) }), "failed", "end: "},
		"says nothing":           {raw(t, func(nc net.Conn) { io.Copy(io.Discard, nc) }), "timeout", "no answer in"},
		"stops":                  {raw(t, answers(well)), "timeout", "no answer in 100ms: end: "},
		"goes on and on":         {raw(t, func(nc net.Conn) { progress(nc, well) }), "failed", "octets of answers"},
		"HTTP":                   {raw(t, answers([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))), "failed", "a packet of 1213486160 octets"},
		"an empty packet":        {raw(t, answers(well, []byte{0, 0, 0, 0})), "failed", "a packet of 0 octets"},
		"an endless packet":      {raw(t, answers(well, []byte{0x7f, 0, 0, 0})), "failed", "a packet of 2130706432 octets"},
		"endless packets":        {raw(t, answers(well, bytes.Repeat(packet('h', "X\x00"+strings.Repeat("y", 1000)+"\x00"), 1100))), "failed", "octets of answers"},
		"an unknown version":     {raw(t, answers(optneg(7, 0, 0))), "failed", "unsupported protocol version"},
		"an unknown answer":      {raw(t, answers(well, packet('Z', ""))), "failed", "unexpected code"},
		"a new body":             {raw(t, answers(well, packet('b', "new"), packet('a', ""))), "failed", "a change that was not offered"},
		"a new sender":           {raw(t, answers(well, packet('e', "<x@evil.example>\x00"), packet('a', ""))), "failed", "a change that was not offered"},
		"a new recipient":        {raw(t, answers(well, packet('+', "<x@evil.example>\x00"), packet('a', ""))), "failed", "a change that was not offered"},
		"one recipient less":     {raw(t, answers(well, packet('-', "<b@y.example>\x00"), packet('a', ""))), "failed", "a change that was not offered"},
		"a reply of 250":         {raw(t, answers(well, packet('y', "250 2.0.0 Ok\x00"))), "failed", "250"},
		"a reply of two codes":   {raw(t, answers(well, packet('y', "550-a\r\nx\r\n550 b\x00"))), "failed", "no reply of 4xx or 5xx"},
		"a field with a line":    {raw(t, answers(well, packet('h', "X\x00a\nBcc: x\x00"), packet('a', ""))), "failed", "a line end that is not a fold"},
		"a field with a control": {raw(t, answers(well, packet('h', "X\x00a\x1bb\x00"), packet('a', ""))), "failed", "a control character"},
		"a field without a name": {raw(t, answers(well, packet('h', "\x00a\x00"), packet('a', ""))), "failed", "empty field name"},
		"a field in a name":      {raw(t, answers(well, packet('i', one("\x00\x00\x00\x00", []byte("X: y\nZ\x00a\x00")...)), packet('a', ""))), "failed", "is no field name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policytest.Failure{Stage: policy.StageMessage, Rule: c.rule, Reason: c.reason,
				Tx: func() *policy.Transaction { return transaction(message) },
				Policy: func(timeout time.Duration, then policy.FailureAction) policy.Policy {
					return made(t, Options{Address: c.address, Timeout: timeout, OnFailure: then})
				},
			}.Check(t, func(t *testing.T, tx *policy.Transaction) {
				if policytest.Stored(t, tx) != message || tx.Discarded() != "" || tx.Quarantined() != "" {
					t.Error("a failure changed something")
				}
			})
		})
	}
}

// progress says for ever that it is at work.
func progress(nc net.Conn, well []byte) {
	answers(well)(oneWrite{nc})
	for {
		if _, err := nc.Write(bytes.Repeat(packet('p', ""), 1000)); err != nil {
			return
		}
	}
}

// oneWrite ends the reading behind the first write.
type oneWrite struct{ net.Conn }

func (o oneWrite) Read(p []byte) (int, error) {
	if len(p) > 17 {
		return 0, io.EOF
	}
	return o.Conn.Read(p)
}

// The client that leaves is no failure of the filter's, and the deadline of all
// policies is told of by the chain.
func TestTheEndOfTheSessionIsNoFailureOfTheFilter(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	m := made(t, Options{OnFailure: policy.FailAccept, Address: raw(t, func(nc net.Conn) {
		asked <- struct{}{}
		io.Copy(io.Discard, nc)
	})})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if err := m.Check(ctx, policy.StageMessage, transaction(message)); !errors.Is(err, context.Canceled) {
		t.Errorf("answered %v", err)
	}
}

func TestObserveChangesNothing(t *testing.T) {
	t.Parallel()
	f := &filter{end: func(m gomilter.Modifier) (*gomilter.Response, error) {
		return gomilter.RespAccept, errors.Join(m.AddHeader("X-Spam", "yes"), m.ChangeHeader(1, "Subject", ""), m.Quarantine("odd"))
	}}
	tx := transaction(message)
	told, err := policytest.Judged(t, policy.StageMessage, tx, policy.Observe(made(t, Options{Address: f.serve(t)})))
	if err != nil || policytest.Stored(t, tx) != message || tx.Quarantined() != "" {
		t.Errorf("%v, %q", err, policytest.Stored(t, tx))
	}
	if len(told) != 1 || !told[0].Observed || told[0].Kind != policy.Quarantined {
		t.Errorf("told %+v", told)
	}
}

func TestAnAddressThatIsNoneIsAnError(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "inet:", "inet:11332", "inet:11332@localhost", "inet::11332", "inet:h:", "unix:", "local:/x", "127.0.0.1:11332", "/run/x"} {
		if _, err := New(Options{Address: s}); err == nil || !strings.Contains(err.Error(), "write inet:127.0.0.1:11332") {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"inet:127.0.0.1:11332", "inet:[::1]:11332", "inet:filter.example:milter", "unix:/run/x"} {
		if _, err := New(Options{Address: s}); err != nil {
			t.Error(err)
		}
	}
}
