package incoming

import "testing"

func TestDomainsCompareWithoutCaseAndByALabel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		domains []string
		domain  string
		ours    bool
	}{
		{nil, "anything.example", false},
		{[]string{}, "anything.example", false},
		{[]string{"*"}, "anything.example", false},
		{[]string{"example.org", "*"}, "anything.example", false},
		{[]string{"*", "example.org"}, "example.org", true},
		{[]string{"example.org"}, "example.org", true},
		{[]string{"Example.ORG"}, "eXample.org", true},
		{[]string{"example.org"}, "sub.example.org", false},
		{[]string{"example.org"}, "example.org.", true}, // the root is named
		{[]string{"bücher.example"}, "xn--bcher-kva.example", true},
		{[]string{"xn--bcher-kva.example"}, "BÜCHER.example", true},
		{[]string{"bücher.example"}, "bu\u0308cher.example", true}, // not in NFC
		{[]string{"bu\u0308cher.example"}, "XN--BCHER-KVA.example", true},
		{[]string{"bücher.example"}, "bucher.example", false},
		{[]string{"xn--bcher-kva.example"}, "xn--bcher.example", false},
		{[]string{"example.org"}, "[192.0.2.1]", false},
		{[]string{"[192.0.2.1]"}, "[192.0.2.1]", true},
	} {
		d, err := newDomains(c.domains)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.has(c.domain); got != c.ours {
			t.Errorf("%q of %q: %v", c.domain, c.domains, got)
		}
	}
}

func TestFirstNamedDomain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		domains []string
		want    string
	}{{nil, ""}, {[]string{"*"}, ""}, {[]string{"*", "a.example", "b.example"}, "a.example"},
		{[]string{"Example.ORG"}, "Example.ORG"}, {[]string{"bücher.example"}, "xn--bcher-kva.example"}} {
		if d, err := newDomains(c.domains); err != nil || d.first != c.want {
			t.Errorf("%q: %q, %v", c.domains, d.first, err)
		}
	}
}
