package mailbox

import (
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// one is the spellings of one domain; no two lists have a domain in common.
var one = [][]string{
	{"example.org", "Example.ORG", "example.org.", "ｅｘａｍｐｌｅ.org", "example。org"},
	{"sub.example.org"},
	// composed, decomposed, in capitals of both, as A-labels
	{"bücher.example", "bu\u0308cher.example", "BÜCHER.example", "BU\u0308CHER.Example", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE", "bücher.example."},
	{"bucher.example"},
	{"faß.example", "xn--fa-hia.example"},
	{"fass.example"},
	{"例え.テスト", "例え。テスト", "xn--r8jz45g.xn--zckzah"},
	{"παράδειγμα.ελ", "ΠΑΡΆΔΕΙΓΜΑ.ΕΛ", "xn--hxajbheg2az3al.xn--qxam"},
	{"مثال.إختبار", "xn--mgbh0fb.xn--kgbechtv"},
	{"r3---sn.bücher.example", "r3---sn.xn--bcher-kva.example"},
	{"a_b.bücher.example"},
	{"[192.0.2.1]"},
	{"192.0.2.1"},
	{"[IPv6:2001:db8::1]", "[ipv6:2001:DB8:0::1]"},
	{""},
}

func TestEverySpellingOfADomainIsOne(t *testing.T) {
	t.Parallel()
	whose := make(map[string]int)
	for i, spellings := range one {
		for _, s := range spellings {
			d, err := Domain(s)
			if err != nil {
				t.Errorf("%q: %v", s, err)
			}
			if !IsASCII(d) || d != strings.ToLower(d) || Fold(s) != d {
				t.Errorf("%q: %q, and folded %q", s, d, Fold(s))
			}
			if other, known := whose[d]; known && other != i {
				t.Errorf("%q is taken for one of %q", s, one[other])
			}
			if whose[d] = i; d != Fold(spellings[0]) {
				t.Errorf("%q is %q, %q is %q", s, d, spellings[0], Fold(spellings[0]))
			}
		}
	}
}

// puny encodes letters as they are, which no registry would.
func puny(t *testing.T, s string) string {
	t.Helper()
	s, err := idna.Punycode.ToASCII(s)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatIsNoDomainEqualsItselfAlone(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"xn--a.example",    // encodes nothing
		"xn--.example",     // likewise
		"xn--example-.org", // ASCII has no need of it
		"xn--bücher-x.example",
		puny(t, "bu\u0308cher.example"), // encodes what is not in NFC
		puny(t, "BÜCHER.example"),       // encodes capitals
		"\xffexample.org",               // not UTF-8
		"j\xf6rg.example",               // Latin-1
		"a\u202eb.example",              // turns the writing around
		"\u0300a.example",               // begins with a mark
	} {
		d, err := Domain(s)
		if err == nil {
			t.Errorf("%q: %q", s, d)
		}
		if Fold(s) != Fold(Fold(s)) || Fold(s) != Fold(s+".") {
			t.Errorf("%q: %q, then %q", s, Fold(s), Fold(Fold(s)))
		}
		for _, spellings := range one {
			if Fold(s) == Fold(spellings[0]) {
				t.Errorf("%q is taken for %q", s, spellings[0])
			}
		}
	}
}

func TestKeyIsOneForEachMailbox(t *testing.T) {
	t.Parallel()
	whose := make(map[string]int)
	for i, spellings := range [][]string{
		{"bob@example.org", "Bob@EXAMPLE.ORG", `"bob"@example.org`, `"b\ob"@example.org.`},
		{"grüße@bücher.example", "GRÜßE@xn--bcher-kva.example", "gru\u0308ße@bu\u0308cher.example", `"grüße"@Bücher.example`},
		{"grusse@bücher.example"},
		{`"a@b"@example.org`, `"A\@b"@example.org`},
		{"postmaster", "Postmaster"},
		{"postmaster@"},
		{""},
		{"b@[IPv6:::1]", "b@[ipv6:0::1]"},
	} {
		for _, s := range spellings {
			k := Key(s)
			if other, known := whose[k]; known && other != i {
				t.Errorf("%q is taken for another: %q", s, k)
			}
			if whose[k] = i; k != Key(spellings[0]) {
				t.Errorf("%q is %q, %q is %q", s, k, spellings[0], Key(spellings[0]))
			}
		}
	}
}

// Most mail is ASCII and in lower case, and each recipient is looked at.
func TestAnAddressInLowerCaseCostsNoAllocation(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _ = Fold("mx.example.org") + Local("bob") }); n > 1 { // the sum
		t.Errorf("%v", n)
	}
}

func FuzzKey(f *testing.F) {
	for _, spellings := range one {
		f.Add("bob@" + spellings[0])
	}
	f.Add(`"a\"b"@x`)
	f.Add("\xff@\xff")
	f.Add("xn--a@xn--a.xn--")
	f.Fuzz(func(t *testing.T, s string) {
		_, domain, _ := Split(s)
		d, err := Domain(domain)
		if err != nil {
			return
		}
		again, err := Domain(d)
		if !utf8.ValidString(d) || err != nil || again != d {
			t.Errorf("%q: %q, then %q, %v", domain, d, again, err)
		}
		if Key(s) != Key(strings.ToUpper(s)) && IsASCII(s) {
			t.Errorf("%q: %q, in capitals %q", s, Key(s), Key(strings.ToUpper(s)))
		}
	})
}

func TestPostmasterIsAnASCIIWord(t *testing.T) {
	t.Parallel()
	for local, want := range map[string]bool{"postmaster": true, "PostMaster": true, "poſtmaster": false, "postmaster1": false, "postmaste": false, "": false} {
		if got := IsPostmaster(local); got != want {
			t.Errorf("%q: %v", local, got)
		}
	}
}
