package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/text/transform"

	"github.com/incoming-mx/incoming/delivery"
	"github.com/incoming-mx/incoming/queue"
)

const authenticated = `{"spf":[{"identity":"mailfrom","result":"softfail","domain":"example.net"},{"identity":"helo","result":"pass"}],` +
	`"dkim":[{"result":"fail","domain":"example.com"},{"result":"pass","domain":"example.net","selector":"s1"}],` +
	`"dmarc":{"result":"fail","domain":"example.net","asked":"quarantine"},"iprev":{"result":"none"},"from":{"result":"pass"}}`

// letterEntry is a message to one recipient, with what policy/mailauth found.
func letterEntry() queue.Entry {
	return queue.Entry{
		ID:       "01JH3M5T0G8N2R4V6X8Z0B1C3D",
		Envelope: queue.Envelope{MailFrom: "bounce@example.net", RcptTo: []queue.Recipient{{Address: "support+case-42@example.org"}}},
		Origin: queue.Origin{
			ReceivedAt: time.Unix(1700000000, 0).Add(-1500 * time.Millisecond), Listener: "mx", Peer: "[2001:db8::1]:4711", Hello: "mail.example.net",
		},
		Facts:   queue.Facts{authenticationFact: json.RawMessage(authenticated)},
		Prepend: []byte("Received: from mail.example.net\r\n by mx.example.org; Tue, 6 Jan 2026 09:20:31 +0000\r\n"),
	}
}

func letterText(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("testdata/letter.eml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\n", "\r\n")
}

// posted delivers a message and returns the requests that came of it.
func posted(t *testing.T, format Format, e queue.Entry, text string) []request {
	t.Helper()
	rc := newReceiver(t, nil)
	a := newAdapter(t, Config{URL: rc.URL + "/mail", Format: format, Secrets: []string{secretTwo, secretOne}})
	m := message(e, text)
	for rcpt, err := range delivery.Results(a.Deliver(t.Context(), m), m.Envelope.Addresses()) {
		if err != nil {
			t.Fatalf("%s: %s: %v", format, rcpt, err)
		}
	}
	got := rc.requests()
	for _, r := range got {
		if r.length != int64(len(r.body)) || len(r.transferEncoding) != 0 {
			t.Errorf("%s: length %d of %d, transfer encoding %q", format, r.length, len(r.body), r.transferEncoding)
		}
		if err := verify(secretOne, r.header, bytes.NewReader(r.body), 0, a.now()); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
	return got
}

// laidOut is a request for people: a form by its fields, JSON indented, also that
// in a string of SNS.
func laidOut(t *testing.T, r request) string {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"Content-Type", "Idempotency-Key", "X-Amz-Sns-Message-Type", "X-Amz-Sns-Message-Id", "X-Amz-Sns-Topic-Arn", "X-Amz-Sns-Subscription-Arn"} {
		if v := r.header.Get(name); v != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, v)
		}
	}
	kind, ps, err := mime.ParseMediaType(r.header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	switch kind {
	case "multipart/form-data":
		form := multipart.NewReader(bytes.NewReader(r.body), ps["boundary"])
		for {
			p, err := form.NextRawPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(p)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "--- %s\n", strings.TrimSpace(p.Header.Get("Content-Disposition")+" "+p.Header.Get("Content-Type")))
			fmt.Fprintf(&b, "%s\n", strings.ReplaceAll(fmt.Sprintf("%q", text), `\n`, "\\n\n"))
		}
	case "application/x-www-form-urlencoded":
		for field := range strings.SplitSeq(string(r.body), "&") {
			name, value, _ := strings.Cut(field, "=")
			value, err := url.QueryUnescape(value)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "--- %s\n%s\n", name, value)
		}
	default:
		b.WriteString(indented(t, r.body))
		var sns struct{ Message string }
		if err := json.Unmarshal(r.body, &sns); err == nil && sns.Message != "" {
			b.WriteString("--- Message\n" + indented(t, []byte(sns.Message)))
		}
	}
	return b.String()
}

func indented(t *testing.T, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "\t"); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return b.String() + "\n"
}

func TestEachProvidersRequestIsAsItsGoldenFileSays(t *testing.T) {
	t.Parallel()
	for _, format := range []Format{Incoming, SendGrid, Mailgun, Postmark, SES} {
		got := posted(t, format, letterEntry(), letterText(t))
		if len(got) != 1 {
			t.Fatalf("%s: %d requests", format, len(got))
		}
		golden(t, string(format)+".golden", laidOut(t, got[0]))
	}
	// Without attachments and without a fact it is another one.
	for _, format := range []Format{Incoming, SendGrid, Mailgun, Postmark, SES} {
		e := letterEntry()
		e.Facts = nil
		got := posted(t, format, e, "From: a@example.net\r\nContent-Type: text/html\r\n\r\n<p>caf\xe9</p>")
		golden(t, string(format)+"-bare.golden", laidOut(t, got[0]))
	}
}

// What a handler for SendGrid does with Go's own means.
func TestAHandlerForSendGridReadsTheForm(t *testing.T) {
	t.Parallel()
	r := posted(t, SendGrid, letterEntry(), letterText(t))[0]
	req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(r.body))
	req.Header = r.header
	var envelope struct {
		To   []string
		From string
	}
	if err := json.Unmarshal([]byte(req.FormValue("envelope")), &envelope); err != nil {
		t.Fatal(err)
	}
	file, header, err := req.FormFile("attachment2")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(envelope.To, []string{"support+case-42@example.org"}) || envelope.From != "bounce@example.net" || req.FormValue("attachments") != "3" ||
		req.FormValue("subject") != "Re: Your café" || header.Filename != `Öffnungs"zeiten.csv` || header.Header.Get("Content-Type") != "text/csv" || string(b) != `day;"hours"` {
		t.Errorf("%+v, subject %q, %q of %q: %q", envelope, req.FormValue("subject"), req.FormValue("attachments"), header.Filename, b)
	}
}

func TestMailgunsSignatureIsOverTimestampAndToken(t *testing.T) {
	t.Parallel()
	r := posted(t, Mailgun, letterEntry(), letterText(t))[0]
	req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(r.body))
	req.Header = r.header
	mac := hmac.New(sha256.New, []byte(secretTwo))
	io.WriteString(mac, req.FormValue("timestamp")+req.FormValue("token"))
	if got := req.FormValue("signature"); got != hex.EncodeToString(mac.Sum(nil)) || req.FormValue("timestamp") != "1700000000" {
		t.Errorf("signature %q of %q", got, req.FormValue("timestamp"))
	}
	if vs := req.PostForm["token"]; len(vs) != 1 || len(vs[0]) != 50 || req.PostForm.Get("Token") != "" {
		t.Errorf("token %q, and the sender's %q", vs, req.PostForm.Get("Token"))
	}
	if a, b := newToken(), newToken(); a == b || len(a) != 50 {
		t.Errorf("tokens %q, %q", a, b)
	}
}

func TestMailgunsFormatWantsASecret(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{URL: "https://app.example/", Format: Mailgun}); err == nil || !strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func TestOnlyInMailgunsFormatIs406ARejection(t *testing.T) {
	t.Parallel()
	for _, format := range Formats() {
		rc := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotAcceptable) })
		a := newAdapter(t, Config{URL: rc.URL, Format: format, Secrets: []string{secretOne}})
		m := message(letterEntry(), "Subject: x\r\n\r\n")
		err := delivery.Results(a.Deliver(t.Context(), m), m.Envelope.Addresses())["support+case-42@example.org"]
		if isRejected(err) != (format == Mailgun) || err == nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}

func TestWhereAProviderPostsOnceARecipientEachHasARequestAndAVerdictOfItsOwn(t *testing.T) {
	t.Parallel()
	for format, field := range map[Format]string{Mailgun: "recipient", Postmark: "OriginalRecipient"} {
		rc := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.Header.Get("Idempotency-Key"), "!") {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		a := newAdapter(t, Config{URL: rc.URL, Format: format, Secrets: []string{secretOne}})
		e := letterEntry()
		e.Envelope.RcptTo = []queue.Recipient{{Address: "a@example.org"}, {Address: "b+x@example.org"}}
		for range 2 { // the second time is an attempt that knows nothing of the first
			m := message(e, "Subject: x\r\n\r\n")
			for rcpt, err := range delivery.Results(a.Deliver(t.Context(), m), m.Envelope.Addresses()) {
				if err != nil {
					t.Errorf("%s: %s: %v", format, rcpt, err)
				}
			}
		}
		got := rc.requests()
		if len(got) != 4 {
			t.Fatalf("%s: %d requests", format, len(got))
		}
		for i, want := range []string{"a@example.org", "b+x@example.org"} {
			key := got[i].header.Get("Idempotency-Key")
			if key != got[i+2].header.Get("Idempotency-Key") || key == got[1-i].header.Get("Idempotency-Key") || !strings.HasPrefix(key, string(e.ID)+".") {
				t.Errorf("%s: key %q", format, key)
			}
			if f := got[i].header.Get(headerFingerprint); f == "" || f != got[1-i].header.Get(headerFingerprint) {
				t.Errorf("%s: fingerprint %q", format, f)
			}
			if text := laidOut(t, got[i]); !strings.Contains(text, "--- "+field+"\n"+want+"\n") && !strings.Contains(text, `"`+field+`": "`+want+`"`) {
				t.Errorf("%s: no %s in %s", format, want, text)
			}
		}
	}
}

func TestOneRefusedRecipientLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	rc := newReceiver(t, nil)
	rc.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("recipient") == "a@example.org" {
			w.WriteHeader(http.StatusNotAcceptable)
		}
	})
	a := newAdapter(t, Config{URL: rc.URL, Format: Mailgun, Secrets: []string{secretOne}})
	e := letterEntry()
	e.Envelope.RcptTo = []queue.Recipient{{Address: "a@example.org"}, {Address: "b@example.org"}}
	m := message(e, "Subject: x\r\n\r\n")
	got := delivery.Results(a.Deliver(t.Context(), m), m.Envelope.Addresses())
	if !isRejected(got["a@example.org"]) || got["b@example.org"] != nil {
		t.Errorf("%v", got)
	}
}

func TestAReceiverReadsParsed(t *testing.T) {
	t.Parallel()
	r := posted(t, Incoming, letterEntry(), letterText(t))[0]
	var p Parsed
	dec := json.NewDecoder(bytes.NewReader(r.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Fatal(err)
	}
	if p.Version != 1 || p.Envelope.ID != string(letterEntry().ID) || p.Envelope.Fingerprint == "" || p.Mail.Reply != `The café is "closed" & <empty>.` ||
		p.Mail.Recipients[0].Plus != "case-42" || p.Mail.Kind != "letter" || string(p.Attachments[1].Content) != `day;"hours"` || p.Attachments[1].Size != 11 {
		t.Errorf("%+v", p)
	}
	bounce := "From: <>\r\nContent-Type: multipart/report; boundary=b\r\nList-Id: <l.example>\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n" +
		"Reporting-MTA: dns; mx\r\n\r\nFinal-Recipient: rfc822; a@b\r\nStatus: 5.1.1\r\n--b--"
	p = Parsed{}
	if err := json.Unmarshal(posted(t, Incoming, letterEntry(), bounce)[0].body, &p); err != nil || p.Mail.Kind != "bounce" || p.Mail.Bounce.Recipients[0].Status != "5.1.1" || p.Mail.List.ID != "l.example" {
		t.Errorf("%+v, %v", p.Mail, err)
	}
}

// Whatever a message holds, the request is well formed and names no field that is
// not ours.
func TestHostileNamesStayInTheirField(t *testing.T) {
	t.Parallel()
	text := "From: =?utf-8?Q?\"=0D=0A--x?= <a@b>\r\nSubject: =?utf-8?Q?=0D=0A\"}?=\r\nX\"; name=\"token: 1\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" +
		"Content-Type: application/x; name*=utf-8''%22%0D%0AContent-Type%3A%20text/html%0D%0A%0D%0A\r\nContent-ID: <\"\r\n\r\n\xff\x00\r\n--b--"
	for _, format := range []Format{Incoming, SendGrid, Mailgun, Postmark, SES} {
		r := posted(t, format, letterEntry(), text)[0]
		s := laidOut(t, r)
		if n := strings.Count(s, `name="token"`); n > 1 || strings.Count(s, "--- form-data; name=\"attachment") > 1 {
			t.Errorf("%s: %s", format, s)
		}
	}
}

// The message of SES is text; what is no UTF-8 cannot be in it.
func TestTheContentForSESIsTheMessage(t *testing.T) {
	t.Parallel()
	text := "Subject: \"é\\\"\r\n\r\n\ttab\x01\x7f €😀 " + strings.Repeat("€\"\\", 3000) + " \xff end \xe2\x82"
	var sns, ses struct{ Message, Content string }
	if err := json.Unmarshal(posted(t, SES, letterEntry(), text)[0].body, &sns); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(sns.Message), &ses); err != nil {
		t.Fatal(err)
	}
	want := string(letterEntry().Prepend) + strings.ReplaceAll(strings.TrimSuffix(text, "\xe2\x82"), "\xff", "\ufffd") + "\ufffd\ufffd"
	if ses.Content != want {
		t.Errorf("%.200q\nwant\n%.200q", ses.Content[max(0, len(ses.Content)-200):], want[len(want)-200:])
	}
}

func TestOctetsAreEncodedInAnyPieces(t *testing.T) {
	t.Parallel()
	for n := range 20 {
		text := bytes.Repeat([]byte{0, '"', 0xe2, 0x82, 0xac}, n)
		text = append(text, "ab"[:n%3]...)
		for name, c := range map[string]struct {
			t    transform.Transformer
			want string
		}{
			"base64": {toBase64{}, base64.StdEncoding.EncodeToString(text)},
			"JSON":   {toJSON{}, strings.NewReplacer("\x00", `\u0000`, `"`, `\"`).Replace(string(text))},
		} {
			for _, r := range []io.Reader{bytes.NewReader(text), iotest.OneByteReader(bytes.NewReader(text)), iotest.DataErrReader(bytes.NewReader(text))} {
				if got, err := io.ReadAll(transform.NewReader(r, c.t)); err != nil || string(got) != c.want {
					t.Errorf("%s of %q: %q, %v", name, text, got, err)
				}
			}
		}
	}
}

// bigText yields a message with attachments, without ever holding it.
type bigText struct {
	head, line, tail string
	lines            int64
}

func (b bigText) size() int64 { return int64(len(b.head)+len(b.tail)) + b.lines*int64(len(b.line)) }

func (b bigText) Close() error { return nil }

func (b bigText) ReadAt(p []byte, off int64) (n int, err error) {
	middle := b.lines * int64(len(b.line))
	for n < len(p) {
		switch at := off + int64(n); {
		case at < int64(len(b.head)):
			n += copy(p[n:], b.head[at:])
		case at < int64(len(b.head))+middle:
			n += copy(p[n:], b.line[(at-int64(len(b.head)))%int64(len(b.line)):])
		case at < b.size():
			n += copy(p[n:], b.tail[at-int64(len(b.head))-middle:])
		default:
			return n, io.EOF
		}
	}
	return n, nil
}

// Not parallel: it looks at the memory of all.
func TestFiftyMegabytesArePostedInLessThan32OfMemory(t *testing.T) {
	line := strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 1000)
	text := bigText{
		head: "Subject: big\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + strings.Repeat("Hello\r\n", 1000) + "--b\r\n" +
			"Content-Type: application/octet-stream; name=big.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n",
		line: line, lines: 50 << 20 / int64(len(line)), tail: "\r\n--b--\r\n",
	}
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	for _, format := range Formats() {
		var before, during runtime.MemStats
		var most uint64
		var took int64
		rc := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			for {
				n, err := io.CopyN(io.Discard, r.Body, 1<<20)
				took += n
				runtime.ReadMemStats(&during)
				most = max(most, during.HeapInuse+during.StackInuse)
				if err != nil {
					return
				}
			}
		}))
		cfg := Config{URL: rc.URL, Format: format}
		if format == Mailgun || format == SES { // signing reads all of it once more
			cfg.Secrets = []string{secretOne}
		}
		a := newAdapter(t, cfg)
		e := letterEntry()
		e.Size = text.size()
		m := queue.NewMessage(e, func() (queue.Raw, error) { return text, nil })
		runtime.GC()
		runtime.ReadMemStats(&before)
		begin := time.Now()
		err := delivery.Results(a.Deliver(context.Background(), m), m.Envelope.Addresses())["support+case-42@example.org"]
		rc.Close()
		grown := int64(most) - int64(before.HeapInuse+before.StackInuse)
		if least := text.lines * 1000 * 19 * 3; err != nil || took < least || grown > 32<<20 {
			t.Errorf("%s: %d octets of %d at least, memory grown by %d: %v", format, took, least, grown, err)
		}
		t.Logf("%s: %d octets in %s, memory grown by %d KiB", format, took, time.Since(begin), grown>>10)
	}
}

func TestAMessageThatEndsWhileItIsSentIsNoSuccess(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	for _, format := range Formats() {
		rc := newReceiver(t, nil)
		a := newAdapter(t, Config{URL: rc.URL, Format: format, Secrets: []string{secretOne}})
		text := letterText(t)
		e := letterEntry()
		e.Size = int64(len(text))
		opened := 0
		// The storage breaks once everything has been read that is read before.
		fine := map[Format]int{Multipart: 2, Raw: 2, Incoming: 3, SendGrid: 3, Mailgun: 3, Postmark: 3, SES: 4}[format]
		m := queue.NewMessage(e, func() (queue.Raw, error) {
			if opened++; opened > fine {
				return nil, broken
			}
			return raw{strings.NewReader(text)}, nil
		})
		err := delivery.Results(a.Deliver(t.Context(), m), m.Envelope.Addresses())["support+case-42@example.org"]
		if !errors.Is(err, broken) || isRejected(err) || opened <= fine {
			t.Errorf("%s: opened %d times: %v", format, opened, err)
		}
	}
}

// Whatever a message holds, each body is well formed and has the length that is
// told: else it would be tried again for ever.
func FuzzFormats(f *testing.F) {
	seed, err := os.ReadFile("testdata/letter.eml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("\"\\\xff"))
	adapters := make([]*Adapter, len(Formats()))
	for i, format := range Formats() {
		if adapters[i], err = New(Config{URL: "https://app.example/", Format: format, Secrets: []string{secretOne}}); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, a := range adapters {
			j, err := a.job(message(letterEntry(), string(text)))
			if err != nil {
				t.Fatal(err)
			}
			p, err := a.payload(j)
			if err != nil {
				t.Fatal(err)
			}
			r, err := p.open()
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r)
			if p.close(); err != nil || int64(len(body)) != p.size {
				t.Fatalf("%s: %d octets, %d told: %v", a.format, len(body), p.size, err)
			}
			if a.format.parses() {
				laidOut(t, request{header: http.Header{"Content-Type": {p.contentType}}, body: body})
			}
		}
	})
}
