package mailparse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/incoming-mx/incoming/queue"
)

func TestAMessageOfTheQueueIsReadWithItsRecipientsPlusParts(t *testing.T) {
	t.Parallel()
	text := "Subject: x\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nPDF"
	m := queue.NewMessage(queue.Entry{
		ID: "A", Size: int64(len(text)), Prepend: []byte("Received: from a by b\r\n"),
		Envelope: queue.Envelope{MailFrom: "a@example.net", RcptTo: []queue.Recipient{
			{Address: "support+billing+eu@example.org"}, {Address: "bob@example.org"}, {Address: `"a+b"@example.org`},
		}},
	}, func() (queue.Raw, error) { return raw{strings.NewReader(text)}, nil })
	got, err := Read(m)
	if err != nil {
		t.Fatal(err)
	}
	want := []Recipient{{"support+billing+eu@example.org", "billing+eu"}, {"bob@example.org", ""}, {`"a+b"@example.org`, "b"}}
	if !slices.Equal(got.Recipients, want) || got.Subject != "x" || !got.Header.Has("Received") || got.Kind != KindLetter {
		t.Errorf("%+v", got)
	}
	if s := content(t, got.Attachments[0]); s != "PDF" {
		t.Errorf("the attachment is %q", s)
	}
	m.Expire()
	if _, err := got.Attachments[0].Open(); !errors.Is(err, queue.ErrLeaseEnded) {
		t.Errorf("after the delivery: %v", err)
	}
	if _, err := Read(m); !errors.Is(err, queue.ErrLeaseEnded) {
		t.Errorf("after the delivery: %v", err)
	}
}

type raw struct{ io.ReaderAt }

func (raw) Close() error { return nil }

func TestTheNullSenderOfTheEnvelopeIsNoLetter(t *testing.T) {
	t.Parallel()
	text := "Subject: x\r\n\r\nHello"
	m := queue.NewMessage(queue.Entry{ID: "A", Size: int64(len(text))}, func() (queue.Raw, error) { return raw{strings.NewReader(text)}, nil })
	if got, err := Read(m); err != nil || got.Kind != KindAutomatic {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTheKindOfMailIsToldByItsFields(t *testing.T) {
	t.Parallel()
	for fields, want := range map[string]Kind{
		"Subject: x\r\n":                                               KindLetter,
		"Auto-Submitted: no\r\n":                                       KindLetter,
		"Auto-Submitted: auto-replied (vacation)\r\n":                  KindAutoReply,
		"auto-submitted: Auto-Generated; x=y\r\n":                      KindAutomatic,
		"X-Autoreply: yes\r\n":                                         KindAutoReply,
		"Precedence: auto_reply\r\n":                                   KindAutoReply,
		"Precedence: bulk\r\n":                                         KindAutomatic,
		"Subject: Out of office\r\n":                                   KindLetter,
		"Subject: Out of office\r\nX-Auto-Response-Suppress: OOF\r\n":  KindAutoReply,
		"List-Unsubscribe: <mailto:a@b>\r\n":                           KindList,
		"List-Id: a\r\nAuto-Submitted: auto-replied\r\n":               KindAutoReply,
		"Return-Path: <>\r\n":                                          KindAutomatic,
		"Return-Path: <>\r\nFrom: Postmaster <Postmaster@a.example>":   KindBounce,
		"From: Postmaster <postmaster@a.example>\r\n":                  KindLetter,
		"X-Failed-Recipients: a@example.net, b@example.net\r\n":        KindBounce,
		"Content-Type: multipart/report; report-type=x; boundary=b":    KindAutomatic,
		"Return-Path: <>\r\nFrom: a@b\r\nSubject: Abwesenheitsnotiz: ": KindAutoReply,
	} {
		if got := parseString(t, fields+"\r\n\r\n--b\r\n\r\nx\r\n--b--"); got.Kind != want {
			t.Errorf("%q is %s, want %s", fields, got.Kind, want)
		}
	}
	b := parseString(t, "X-Failed-Recipients: a@example.net, b@example.net\r\nIn-Reply-To: <1@x>\r\n\r\n550 5.7.1 No").Bounce
	if b.MessageID != "1@x" || len(b.Recipients) != 2 || b.Recipients[1] != (BouncedRecipient{Address: "b@example.net", Action: "failed", Status: "5.7.1"}) {
		t.Errorf("%+v", b)
	}
}

func TestAnOpenerThatCannotSeekGivesTheSame(t *testing.T) {
	t.Parallel()
	for _, file := range letters(t) {
		text := letter(t, file)
		m, err := ReadFrom(func() (io.ReadCloser, error) { return io.NopCloser(iotest.OneByteReader(bytes.NewReader(text))), nil })
		if err != nil {
			t.Fatal(err)
		}
		if got, want := dump(t, m), dump(t, parse(t, text)); got != want {
			t.Errorf("%s: octet by octet\n%s\nwant\n%s", file, got, want)
		}
	}
}

func TestAnAttachedMessageIsReadByItsPart(t *testing.T) {
	t.Parallel()
	m := parse(t, letter(t, "testdata/attached-message.eml"))
	inner, err := ReadFrom(m.Attachments[0].Open)
	if err != nil {
		t.Fatal(err)
	}
	if inner.Subject != "inner" || inner.Text != "inner text" || content(t, inner.Attachments[0]) != "a" {
		t.Error(dump(t, inner))
	}
}

func TestAnErrorOfTheStorageIsAnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	text := string(letter(t, "testdata/apple-mixed.eml"))
	for _, n := range []int{0, 10, len(text) / 2, len(text)} {
		_, err := ReadFrom(func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(text[:n]), iotest.ErrReader(broken))), nil
		})
		if !errors.Is(err, broken) {
			t.Errorf("after %d octets: %v", n, err)
		}
	}
	if _, err := ReadFrom(func() (io.ReadCloser, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	m := parseString(t, text)
	p := m.Attachments[1]
	p.open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text[:p.offset+3])), nil }
	r, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) || string(b) != "a,b" {
		t.Errorf("a part that has become shorter: %q, %v", b, err)
	}
}

// siblings is a message of n parts.
func siblings(n int) string {
	return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", n) + "--b--\r\n"
}

// R12.
func TestAtMostAThousandPartsAreRead(t *testing.T) {
	t.Parallel()
	for n, problems := range map[int]int{MaxParts - 1: 0, MaxParts: 0, MaxParts + 1: 1, 1_000_000: 1} {
		m := parseString(t, siblings(n))
		if len(m.Parts) != min(n, MaxParts) || len(m.Problems) != problems {
			t.Errorf("of %d: %d parts, %v", n, len(m.Parts), m.Problems)
		}
	}
}

// nested is a message of n multiparts in one another.
func nested(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%[1]d\r\n", i)
	}
	b.WriteString("\r\ndeep\r\n")
	for i := n - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "--b%d--\r\n", i)
	}
	return b.String()
}

func TestMultipartsLieInOneAnotherTwentyDeep(t *testing.T) {
	t.Parallel()
	for _, n := range []int{MaxDepth - 1, MaxDepth} {
		if m := parseString(t, nested(n)); m.Text != "deep" || len(m.Problems) != 0 {
			t.Errorf("%d deep: %s", n, dump(t, m))
		}
	}
	for _, n := range []int{MaxDepth + 1, 100_000} {
		m := parseString(t, nested(n))
		if m.Text != "" || len(m.Attachments) != 1 || len(m.Problems) != 1 {
			t.Fatalf("%d deep: %d attachments, %v", n, len(m.Attachments), m.Problems)
		}
		if n == MaxDepth+1 && !strings.Contains(content(t, m.Attachments[0]), "deep") {
			t.Errorf("what lies deeper is %q", content(t, m.Attachments[0]))
		}
	}
}

// R12: a hundred thousand messages attached to one another are one attachment.
func TestMessagesInOneAnotherAreNotTakenApart(t *testing.T) {
	t.Parallel()
	m := parseString(t, "Subject: x\r\n"+strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 100_000))
	if len(m.Parts) != 1 || len(m.Attachments) != 1 {
		t.Errorf("%d parts", len(m.Parts))
	}
}

func TestAMebibyteOfHeaderIsRead(t *testing.T) {
	t.Parallel()
	for _, over := range []int{-1, 0, 1} {
		text := "Subject: x\r\n"
		text += "X: " + strings.Repeat("y", MaxHeader-len(text)-len("X: \r\nTo: a@b\r\n")+over) + "\r\nTo: a@b\r\n"
		m := parseString(t, text+"\r\nbody")
		if m.Subject != "x" || m.Text != "body" || (len(m.To) == 1) != (over <= 0) || (len(m.Problems) == 0) != (over <= 0) {
			t.Errorf("%d octets over: subject %q, text %q, to %v, %v", over, m.Subject, m.Text, m.To, m.Problems)
		}
		// The headers of all parts together: here of the message and one part.
		inner := "Content-Type: multipart/mixed; boundary=b\r\n"
		first := inner + "\r\n--b\r\n"
		header := "X: " + strings.Repeat("y", MaxHeader-len(inner)-len("X: \r\nContent-Type: text/plain\r\n")+over) + "\r\nContent-Type: text/plain\r\n"
		m = parseString(t, first+header+"\r\nbody\r\n--b--")
		if (m.Text == "body") != (over <= 0) || (len(m.Problems) == 0) != (over <= 0) || len(m.Parts) != 1 {
			t.Errorf("%d octets over in a part: %v", over, m.Problems)
		}
	}
	for _, over := range []int{0, 1} {
		m := parseString(t, strings.Repeat("a:\r\n", MaxFields+over)+"\r\nbody")
		if m.Text != "body" || m.Header.Len() != MaxFields || len(m.Problems) != over {
			t.Errorf("%d fields over: %d fields, %v", over, m.Header.Len(), m.Problems)
		}
	}
}

func TestTextIsCutAtALimitThatIsToldOf(t *testing.T) {
	t.Parallel()
	for _, over := range []int{-1, 0, 1} {
		m := parseString(t, "Content-Type: text/plain; charset=utf-8\r\n\r\n"+strings.Repeat("y", MaxText+over))
		if len(m.Text) != min(MaxText, MaxText+over) || (len(m.Problems) == 0) != (over <= 0) || m.Parts[0].Size != int64(MaxText+over) {
			t.Errorf("%d over: %d octets, %v", over, len(m.Text), m.Problems)
		}
	}
	// No character is cut in two, and the limit is one for all parts together.
	m := parseString(t, "Content-Type: multipart/mixed; boundary=b\r\n\r\n"+strings.Repeat("--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"+
		strings.Repeat("€", MaxText/6)+"\r\n", 4)+"--b--")
	if len(m.Text) > MaxText || len(m.Text) < MaxText-8 || strings.ContainsRune(m.Text, '\ufffd') || len(m.Problems) == 0 {
		t.Errorf("%d octets, %v", len(m.Text), m.Problems)
	}
	// Latin-1 grows when it is decoded.
	m = parseString(t, "Content-Type: text/html; charset=iso-8859-1\r\n\r\n"+strings.Repeat("\xe9", MaxText))
	if len(m.HTML) != MaxText || len(m.Text) > MaxText || len(m.Problems) != 1 {
		t.Errorf("%d octets of HTML, %v", len(m.HTML), m.Problems)
	}
}

// Each is a way to make a reader work more than once over the same octets. R12.
func TestHostileMailIsReadInLinearTime(t *testing.T) {
	t.Parallel()
	size := 1 << 20
	if raceEnabled {
		size = 1 << 17
	}
	field := func(name, piece string) string {
		return name + ": " + strings.Repeat(piece, size/len(piece)-1) + "\r\n\r\nx"
	}
	for name, text := range map[string]string{
		"comments":         field("From", "("),
		"comments closed":  field("From", "(") + strings.Repeat(")", size),
		"angles":           field("From", "<@,"),
		"quotes":           field("From", `"\`),
		"groups":           field("To", "a:;"),
		"commas":           field("To", "a,"),
		"words open":       field("Subject", "=?a?q?"),
		"words":            field("Subject", "=?a?q??="),
		"words apart":      field("Subject", "=?a?q?x?=b"),
		"words by turns":   field("Subject", "=?koi8-r?q?x?= =?gbk?q?y?="),
		"words in From":    field("From", "=?a?q?"),
		"equals":           field("Subject", "=?"),
		"references":       field("References", "<"),
		"parameters":       field("Content-Type", `;a="`),
		"pieces":           "Content-Disposition: a; " + strings.Repeat("filename*0*=a;", size/14) + "\r\n\r\nx",
		"list":             field("List-Unsubscribe", "<"),
		"date":             field("Date", "1 "),
		"quoted lines":     "\r\n" + strings.Repeat(">\n", size/2),
		"short lines":      "\r\n" + strings.Repeat("a:\n", size/3),
		"attributions":     "\r\n" + strings.Repeat("on 1:\n", size/6),
		"headers":          "\r\n" + strings.Repeat("From: a\n", size/8),
		"dashes":           "\r\n" + strings.Repeat("--", size/2),
		"signatures":       "\r\n" + strings.Repeat("--\n", size/3),
		"tags":             "Content-Type: text/html\r\n\r\n" + strings.Repeat("<blockquote>a", size/13),
		"tags open":        "Content-Type: text/html\r\n\r\n" + strings.Repeat("<a ", size/3),
		"angles in HTML":   "Content-Type: text/html\r\n\r\n" + strings.Repeat("<", size),
		"comments in HTML": "Content-Type: text/html\r\n\r\n" + strings.Repeat("<!--", size/4),
		"quotes in HTML":   "Content-Type: text/html\r\n\r\n" + strings.Repeat("<div class=gmail_quote>", size/23),
		"raw text":         "Content-Type: text/html\r\n\r\n" + strings.Repeat("<script>", size/8),
		"raw text by turn": "Content-Type: text/html\r\n\r\n" + strings.Repeat("<script><!--<script>", size/20),
		"attributes":       "Content-Type: text/html\r\n\r\n<div " + strings.Repeat("a ", size/2) + ">",
		"bounce":           "Return-Path: <>\r\nFrom: mailer-daemon\r\n\r\n" + strings.Repeat("<a@", size/3),
		"status":           "Content-Type: message/delivery-status\r\n\r\n" + strings.Repeat("Final-Recipient: a\n\n", size/20),
		"quoted-printable": "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("= ", size/2),
		"white space":      "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat(" ", size),
		"base64":           "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("=", size),
		"siblings":         siblings(size / 10),
		"nested":           nested(size / 60),
		"delimiters":       strings.Repeat("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n", 20) + strings.Repeat("--a", size/3) + strings.Repeat("\r\n--", size/4),
	} {
		begin := time.Now()
		m := parseString(t, text)
		_, _, _ = m.Reply(), m.Signature(), m.ReplyHTML()
		// What is quadratic takes much longer at this size.
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s: %d octets took %s", name, len(text), took)
		}
	}
}

// big yields a message with an attachment of n octets, without ever holding it.
type big struct {
	head, line, tail string
	n                int64 // of lines
}

func (b big) size() int64 { return int64(len(b.head)+len(b.tail)) + b.n*int64(len(b.line)) }

func (b big) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		at := off + int64(n)
		lines := b.n * int64(len(b.line))
		switch {
		case at < int64(len(b.head)):
			n += copy(p[n:], b.head[at:])
		case at < int64(len(b.head))+lines:
			n += copy(p[n:], b.line[(at-int64(len(b.head)))%int64(len(b.line)):])
		case at < b.size():
			n += copy(p[n:], b.tail[at-int64(len(b.head))-lines:])
		default:
			return n, io.EOF
		}
	}
	return n, nil
}

func bigMessage(octets int64) big {
	line := strings.Repeat("QUJD", 19) + "\r\n"
	return big{
		head: "Subject: big\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n" +
			"Content-Type: application/octet-stream; name=big.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n",
		line: line, n: octets / int64(len(line)), tail: "\r\n--b--\r\n",
	}
}

// Not parallel: it looks at the memory of all.
func TestFiftyMegabytesAreNeverInMemory(t *testing.T) {
	b := bigMessage(50 << 20)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m, err := ReadAt(b, b.size())
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Attachments[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r)
	runtime.ReadMemStats(&after)
	if err != nil || n != m.Attachments[0].Size || n != b.n*19*3 || m.Text != "Hello" {
		t.Errorf("%d octets of %d: %v", n, m.Attachments[0].Size, err)
	}
	// All that was ever allocated, not only what was held at a time.
	if total := after.TotalAlloc - before.TotalAlloc; total > 4<<20 {
		t.Errorf("%d octets were allocated", total)
	}
}

func TestWhatGoWritesIsReadBack(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\r\n\r\n", w.Boundary())
	want := []string{"", "\r\n", "a\r\n\r\n", "--" + w.Boundary()[1:], "x\r\n--", "\r", "\n", strings.Repeat("z", 200<<10), strings.Repeat("\r", 64<<10) + "\n"}
	for _, s := range want {
		p, err := w.CreatePart(map[string][]string{"Content-Type": {"application/octet-stream"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(p, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	m := parse(t, b.Bytes())
	if len(m.Parts) != len(want) {
		t.Fatalf("%d parts", len(m.Parts))
	}
	for i, p := range m.Parts {
		if got := content(t, p); got != want[i] {
			t.Errorf("part %d is %.60q, want %.60q", i, got, want[i])
		}
	}
}
