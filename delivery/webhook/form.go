package webhook

import (
	"strings"

	"github.com/incoming-mx/incoming/queue"
)

// form is a body of multipart/form-data (RFC 7578) in the making.
type form struct {
	boundary string
	segments []segment
	text     strings.Builder // not yet a segment
}

func newForm(id queue.ID) *form { return &form{boundary: boundary(id)} }

// part adds a part; kind is "" for a field of text.
func (f *form) part(disposition, kind string, s segment) {
	f.text.WriteString("--" + f.boundary + "\r\nContent-Disposition: " + disposition + "\r\n")
	if kind != "" {
		f.text.WriteString("Content-Type: " + kind + "\r\n")
	}
	f.text.WriteString("\r\n")
	f.add(s)
	f.text.WriteString("\r\n")
}

func (f *form) add(s segment) {
	if s.open == nil && len(s.text) < 4096 {
		f.text.WriteString(s.text)
		return
	}
	f.flush()
	f.segments = append(f.segments, s)
}

func (f *form) flush() {
	f.segments = append(f.segments, literal(f.text.String()))
	f.text.Reset()
}

func (f *form) field(name, value string) {
	f.part(`form-data; name=`+quoted(name), "", literal(value))
}

func (f *form) file(name, filename, kind string, s segment) {
	f.part(`form-data; name=`+quoted(name)+`; filename=`+quoted(filename), kind, s)
}

// end is the form's type and all of it.
func (f *form) end() (contentType string, segments []segment) {
	f.text.WriteString("--" + f.boundary + "--\r\n")
	f.flush()
	return "multipart/form-data; boundary=" + f.boundary, f.segments
}

var quoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\r", "%0D", "\n", "%0A")

func quoted(s string) string { return `"` + quoter.Replace(s) + `"` }
