package maildir

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// D14.
func TestAnAddressBecomesASafeName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64) + "@" + strings.Repeat("b.", 100) + "example"
	for address, want := range map[string]string{
		"b@example.org":                "b@example.org",
		"Bob.B+tag_x=y@EXAMPLE.org":    "bob.b+tag_x=y@example.org",
		"b@example.org.":               "b@example.org",
		"b@bücher.example":             "b@xn--bcher-kva.example",
		"b@XN--BCHER-KVA.example":      "b@xn--bcher-kva.example",
		"é@example.org":                "%C3%A9@example.org",
		"e\u0301@example.org":          "%C3%A9@example.org", // the same in NFC
		"b@BU\u0308CHER.example":       "b@xn--bcher-kva.example",
		"b@a_b.bücher.example":         "b@a_b.xn--bcher-kva.example",
		"b@xn--a.example":              "b@xn--a.example", // encodes nothing
		"\xff@example.org":             "%FF@example.org",
		"../../etc/passwd@example.org": "%2E.%2F..%2Fetc%2Fpasswd@example.org",
		"-rf@example.org":              "%2Drf@example.org",
		"~@example.org":                "%7E@example.org",
		".hidden@example.org":          "%2Ehidden@example.org",
		"a%2F@example.org":             "a%252f@example.org",
		`"a b"@c"@example.org`:         "%22a%20b%22@c%22@example.org",
		"a\x00\n:\\b@example.org":      "a%00%0A%3A%5Cb@example.org",
		"b@[192.0.2.1]":                "b@%5B192.0.2.1%5D",
		"postmaster":                   "postmaster",
		"Postmaster":                   "postmaster",
		"..":                           "%2E.",
		"@":                            "@",
		"":                             "%",
		long:                           long[:86] + "%_ddc0d56a4a0e7d1c870d2bb3f1d42fd6",
	} {
		if got := escape(canonical(address)); got != want {
			t.Errorf("%q became %q, want %q", address, got, want)
		}
	}
}

func TestPathsOfTemplates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ template, address, want string }{
		{"/m/{domain}/{rcpt}", "B@Example.org", "/m/example.org/b@example.org"},
		{"/m/{rcpt}/Maildir", "b@example.org", "/m/b@example.org/Maildir"},
		{"/m/.{domain}", "b@.", "/m/.%"},
		{"/m/{domain}", "postmaster", "/m/%"},
		{"/m/{domain}", "b@..", "/m/%2E"},
		{"/m/{domain}", "b@bücher.example", "/m/xn--bcher-kva.example"},
		{"/m/{domain}.{rcpt}", "b@c", "/m/c.b@c"},
		{"/m/x/../{rcpt}", "b@c", "/m/b@c"},
		{"/{rcpt}", "{domain}@c", "/%7Bdomain%7D@c"},
	} {
		tmpl, err := parseTemplate(c.template)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		if got := tmpl.path(c.address); got != c.want {
			t.Errorf("%s for %q is %q, want %q", c.template, c.address, got, c.want)
		}
	}
}

func TestRecipientsOfOnePathShareABox(t *testing.T) {
	t.Parallel()
	tmpl, err := parseTemplate("/m/{domain}")
	if err != nil {
		t.Fatal(err)
	}
	boxes := tmpl.group([]string{"a@x", "b@y", "c@X"})
	if len(boxes) != 2 || boxes[0].path != "/m/x" || !slices.Equal(boxes[0].recipients, []string{"a@x", "c@X"}) ||
		boxes[1].path != "/m/y" || !slices.Equal(boxes[1].recipients, []string{"b@y"}) {
		t.Errorf("grouped as %v", boxes)
	}
}

func FuzzAnyTwoAddressesHaveTwoSafeNames(f *testing.F) {
	f.Add("../a@b", "a@b")
	f.Add("", ".")
	f.Add(strings.Repeat("/", 100), strings.Repeat("/", 101))
	f.Add("a%2F", "a/")
	f.Add(strings.Repeat("a", 121), strings.Repeat("a", 86)+"%_")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, s := range []string{a, b} {
			name := escape(canonical(s))
			switch {
			case name == "", name[0] == '.', name[0] == '-', len(name) > maxEscaped,
				strings.ContainsAny(name, "/\x00\n\\:"), filepath.Base(name) != name, name != lowerButHex(name):
				t.Errorf("%q became %q", s, name)
			}
		}
		if ca, cb := canonical(a), canonical(b); (escape(ca) == escape(cb)) != (ca == cb) {
			t.Errorf("%q and %q became %q and %q", ca, cb, escape(ca), escape(cb))
		}
	})
}

// lowerButHex is name in small letters, the hexadecimal digits aside: on a file
// system without case it must not meet another.
func lowerButHex(name string) string {
	b := []byte(lower(name))
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' && b[i+1] != '_' {
			copy(b[i:], strings.ToUpper(string(b[i:i+3])))
			i += 2
		}
	}
	return string(b)
}
