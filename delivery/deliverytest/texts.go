package deliverytest

import (
	"fmt"
	"strings"

	"github.com/incoming-mx/incoming/queue"
)

// texts are what must arrive as it was received. All end their lines with CRLF,
// which no adapter may have a reason to change.
var texts = []check{
	{"a message arrives as it was received", func(s *suite) {
		s.arrives("Subject: hello\r\nFrom: a@x.example\r\n\r\nHello,\r\n\r\nyou.\r\n")
	}},
	{"a message without a header arrives", func(s *suite) { s.arrives("there is no field here\r\nand none here\r\n") }},
	{"a message without an empty line behind its header arrives", func(s *suite) {
		s.arrives("Subject: hello\r\nX-Mailer: an old device\r\nhere the body begins\r\n")
	}},
	{"a message of a header alone arrives", func(s *suite) { s.arrives("Subject: hello\r\n") }},
	{"an empty message arrives, if only as an empty line", func(s *suite) {
		s.must(textOf("").message(entry("01JEMPTY", "a@y.example")))
		if copies, can := s.arrived(); can && (len(copies) == 0 || copies[0].Size > int64(len("\r\n"))) {
			s.Errorf("what arrived is %v", copies)
		}
	}},
	{"8-bit text arrives, whether UTF-8 or not", func(s *suite) {
		s.arrives("Subject: gr\xfc\xdfe\r\n\r\ncaf\xe9, café, \x80\xff\r\n")
	}},
	{"NUL and other control characters arrive", func(s *suite) { s.arrives("Subject: x\r\n\r\na\x00b\x1a\x04\x7f\r\n") }},
	{"lines that begin with dots arrive", func(s *suite) {
		s.arrives(".\r\n..\r\n.Subject: x\r\n\r\n.\r\n..\r\n...\r\n.a\r\n.\r\n")
	}},
	{"lines that look like commands arrive", func(s *suite) {
		s.arrives("Subject: x\r\n\r\nQUIT\r\nRSET\r\nMAIL FROM:<m@x.example>\r\n--\r\n--incoming-\r\nFrom here\r\n")
	}},
	{"a line of 100 KB arrives", func(s *suite) { s.arrives("Subject: x\r\n\r\n" + strings.Repeat("long ", 20_000) + "\r\n") }},
	{"prepended fields arrive on top, and removed ones do not", func(s *suite) {
		e := entry("01JTOP", "a@y.example")
		e.Prepend = []byte("Received: from c by m; now\r\n")
		const forged = "X-Forged: yes\r\n"
		e.Skip = []queue.Range{{End: int64(len(forged))}}
		text := textOf(forged + "Subject: x\r\n\r\nbody\r\n")
		s.must(text.message(e))
		s.lies(textOf("Received: from c by m; now\r\nSubject: x\r\n\r\nbody\r\n"), "a@y.example")
	}},
	{"a message of the null sender arrives", func(s *suite) {
		e := entry("01JNULL", "a@y.example")
		e.Envelope.MailFrom = ""
		text := textOf(short)
		s.must(text.message(e))
		s.lies(text, "a@y.example")
	}},
	{"a message for 300 recipients arrives for each", func(s *suite) {
		var to []string
		for i := range 300 {
			to = append(to, fmt.Sprintf("rcpt%d@y.example", i))
		}
		text := textOf(short)
		s.must(text.message(entry("01JMANY", to...)))
		s.lies(text, to...)
	}},
	{"a message whose ID was made elsewhere arrives", func(s *suite) {
		text := textOf(short)
		s.must(text.message(entry(`..,odd id%41&"é`, "a@y.example")))
		s.lies(text, "a@y.example")
	}},
	{"50 MB arrive in little memory", func(s *suite) {
		const most = 16 << 20
		text := long(big)
		before := heap()
		var grown int64
		text.at = func() error {
			grown = heap() - before
			return nil
		}
		s.must(text.message(entry("01JBIG", "a@y.example")))
		if grown > most {
			s.Errorf("half of the message in, memory has grown by %d octets, want %d at most", grown, most)
		}
		text.at = nil
		s.lies(text, "a@y.example")
	}},
}

const short = "Subject: x\r\n\r\nbody\r\n"

func (s *suite) arrives(text string) {
	s.Helper()
	src := textOf(text)
	m := src.message(entry("01JTEXT", "a@y.example", "b@z.example"))
	s.must(m)
	s.lies(src, "a@y.example", "b@z.example")
}
