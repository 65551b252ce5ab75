package mailauth

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/header"
)

// The tree walk of RFC 9989, in its own examples (Organizational Domain, DNS Tree
// Walk, and the appendix on tree walks).
func TestTreeWalksOfTheRFC(t *testing.T) {
	t.Parallel()
	const rec, suffix, own = "v=DMARC1; p=reject", "v=DMARC1; p=reject; psd=y", "v=DMARC1; p=none; psd=n"
	for name, c := range map[string]struct {
		records map[string]string
		domain  string
		org     string
		asked   []string // without "_dmarc."; nil: of no interest
	}{
		"eight questions": {nil, "a.b.c.d.e.f.g.h.i.j.mail.example.com", "a.b.c.d.e.f.g.h.i.j.mail.example.com", []string{
			"a.b.c.d.e.f.g.h.i.j.mail.example.com", "g.h.i.j.mail.example.com", "h.i.j.mail.example.com", "i.j.mail.example.com",
			"j.mail.example.com", "mail.example.com", "example.com", "com"}},
		"the fewest labels": {map[string]string{"mail.example.com": rec, "example.com": rec}, "a.mail.example.com", "example.com", []string{
			"a.mail.example.com", "mail.example.com", "example.com", "com"}},
		"a public suffix above":       {map[string]string{"com": suffix}, "a.mail.example.com", "example.com", nil},
		"simple":                      {map[string]string{"example.com": rec, "signing.example.com": rec}, "signing.example.com", "example.com", nil},
		"deep":                        {map[string]string{"example.com": rec, "signing.example.com": rec}, "a.b.c.d.e.f.g.h.i.j.k.example.com", "example.com", []string{"a.b.c.d.e.f.g.h.i.j.k.example.com", "g.h.i.j.k.example.com", "h.i.j.k.example.com", "i.j.k.example.com", "j.k.example.com", "k.example.com", "example.com", "com"}},
		"a bank of its own":           {map[string]string{"bank.example": suffix, "giant.bank.example": rec}, "giant.bank.example", "giant.bank.example", []string{"giant.bank.example", "bank.example"}},
		"mail of a bank":              {map[string]string{"bank.example": suffix, "giant.bank.example": rec}, "mail.giant.bank.example", "giant.bank.example", nil},
		"a bank without a record":     {map[string]string{"bank.example": suffix, "giant.bank.example": rec}, "mail.mega.bank.example", "mega.bank.example", nil},
		"the suffix itself":           {map[string]string{"bank.example": suffix}, "bank.example", "bank.example", []string{"bank.example"}},
		"no suffix, and it says so":   {map[string]string{"mail.example.com": own, "example.com": rec}, "a.mail.example.com", "mail.example.com", []string{"a.mail.example.com", "mail.example.com"}},
		"eight labels":                {nil, "a.b.c.d.e.f.example.com", "a.b.c.d.e.f.example.com", []string{"a.b.c.d.e.f.example.com", "b.c.d.e.f.example.com", "c.d.e.f.example.com", "d.e.f.example.com", "e.f.example.com", "f.example.com", "example.com", "com"}},
		"nine labels":                 {nil, "z.a.b.c.d.e.f.example.com", "z.a.b.c.d.e.f.example.com", []string{"z.a.b.c.d.e.f.example.com", "b.c.d.e.f.example.com", "c.d.e.f.example.com", "d.e.f.example.com", "e.f.example.com", "f.example.com", "example.com", "com"}},
		"two records at one name":     {map[string]string{"mail.example.com": rec + "\n" + rec, "com": suffix}, "mail.example.com", "example.com", nil},
		"nothing that begins with v=": {map[string]string{"example.com": "p=reject; v=DMARC1"}, "mail.example.com", "mail.example.com", nil},
	} {
		z := make(zone)
		for domain, text := range c.records {
			z["_dmarc."+domain] = txt(strings.Split(text, "\n")...)
		}
		dns := &asked{zone: z}
		w := walker{newBudget(dns, time.Second)}
		climbed, err := w.climb(t.Context(), c.domain)
		if err != nil {
			t.Fatal(err)
		}
		if org := organization(c.domain, climbed); org != c.org {
			t.Errorf("%s: the organization of %s is %s, want %s", name, c.domain, org, c.org)
		}
		for i := range dns.names {
			dns.names[i] = strings.TrimPrefix(dns.names[i], "_dmarc.")
		}
		if c.asked != nil && !slices.Equal(dns.names, c.asked) {
			t.Errorf("%s: asked\n%q, want\n%q", name, dns.names, c.asked)
		}
	}
}

// The policy that applies, by DMARC Policy Discovery of RFC 9989.
func TestPolicyDiscovery(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		records map[string]string
		exists  bool // the author's domain
		author  string
		want    string // asked, and whose record
	}{
		"its own":                    {map[string]string{"example.com": "v=DMARC1; p=reject; sp=none"}, true, "example.com", "reject example.com"},
		"the organization's":         {map[string]string{"example.com": "v=DMARC1; p=reject"}, true, "a.b.example.com", "reject example.com"},
		"not that in between":        {map[string]string{"example.com": "v=DMARC1; p=reject", "b.example.com": "v=DMARC1; p=none"}, true, "a.b.example.com", "reject example.com"},
		"sp":                         {map[string]string{"example.com": "v=DMARC1; p=none; sp=reject; np=quarantine"}, true, "a.example.com", "reject example.com"},
		"np":                         {map[string]string{"example.com": "v=DMARC1; p=none; sp=reject; np=quarantine"}, false, "a.example.com", "quarantine example.com"},
		"np without sp":              {map[string]string{"example.com": "v=DMARC1; p=none; np=reject"}, false, "a.example.com", "reject example.com"},
		"np is not for what is":      {map[string]string{"example.com": "v=DMARC1; p=none; np=reject"}, true, "a.example.com", "none example.com"},
		"the suffix's":               {map[string]string{"bank.example": "v=DMARC1; p=reject; psd=y"}, true, "mega.bank.example", "reject bank.example"},
		"not the suffix's":           {map[string]string{"bank.example": "v=DMARC1; p=reject; psd=y", "giant.bank.example": "v=DMARC1; p=none"}, true, "a.giant.bank.example", "none giant.bank.example"},
		"testing":                    {map[string]string{"example.com": "v=DMARC1; p=reject; t=y"}, true, "example.com", "quarantine example.com"},
		"testing quarantine":         {map[string]string{"example.com": "v=DMARC1; p=quarantine; t=y"}, true, "example.com", "none example.com"},
		"none at all":                {nil, true, "example.com", ""},
		"no p":                       {map[string]string{"example.com": "v=DMARC1"}, true, "example.com", "none example.com"},
		"a p that is none":           {map[string]string{"example.com": "v=DMARC1; p=rejekt"}, true, "example.com", ""},
		"the same with reports":      {map[string]string{"example.com": "v=DMARC1; p=rejekt; rua=mailto:d@example.com"}, true, "example.com", "none example.com"},
		"an sp that is none":         {map[string]string{"example.com": "v=DMARC1; p=reject; sp=x; rua=mailto:d@example.com"}, true, "example.com", "none example.com"},
		"case, spaces, unknown tags": {map[string]string{"example.com": "V = DMARC1 ;\tP=REJECT ; pct=10; x=y;;"}, true, "example.com", "reject example.com"},
		"version 2":                  {map[string]string{"example.com": "v=DMARC2; p=reject"}, true, "example.com", ""},
		"a version in small letters": {map[string]string{"example.com": "v=dmarc1; p=reject"}, true, "example.com", ""},
	} {
		z := make(zone)
		for domain, text := range c.records {
			z["_dmarc."+domain] = txt(text)
		}
		if c.exists {
			z[c.author] = host("192.0.2.1")
		}
		d := walker{newBudget(z, time.Second)}.discover(t.Context(), c.author)
		got := ""
		if d.record != nil {
			got = fmt.Sprint(d.asked, " ", d.domain)
		}
		if got != c.want || d.err != nil {
			t.Errorf("%s: %q %v, want %q", name, got, d.err, c.want)
		}
	}
}

// The alignment examples of RFC 9989, by SPF and by DKIM.
func TestAlignmentExamplesOfTheRFC(t *testing.T) {
	t.Parallel()
	const relaxed, strict = "v=DMARC1; p=reject", "v=DMARC1; p=reject; aspf=s; adkim=s"
	for name, c := range map[string]struct {
		author, other, record string
		want                  Result
	}{
		"strict alignment, SPF":      {"example.com", "example.com", strict, Pass},
		"relaxed alignment, SPF":     {"example.com", "child.example.com", relaxed, Pass},
		"that in a strict policy":    {"example.com", "child.example.com", strict, Fail},
		"relaxed alignment, DKIM":    {"child.example.com", "example.com", relaxed, Pass},
		"no alignment":               {"child.example.com", "example.net", relaxed, Fail},
		"the SMTP session's example": {"example.com", "mail.example.com", "v=DMARC1; p=reject; aspf=r; rua=mailto:dmarc-feedback@example.com", Pass},
		"a name that ends alike":     {"example.com", "evilexample.com", relaxed, Fail},
	} {
		z := zone{"_dmarc.example.com": txt(c.record), c.other: txt("v=spf1 ip4:192.0.2.1 -all"), "s._domainkey." + c.other: txt(signerKey), c.author: txt("x")}
		z[c.other] = txt("v=spf1 ip4:192.0.2.1 -all")
		text := "From: sender@" + c.author + "\nSubject: here's a sample\n\nx\n"
		spf := send(t, Options{Resolver: z}, letter{peer: "192.0.2.1", helo: "x.example", from: "sender@" + c.other, text: text})
		dkim := send(t, Options{Resolver: z}, letter{peer: "192.0.2.9", helo: "x.example", from: "sender@elsewhere.example", text: sign(t, c.other, text)})
		if spf.DMARC.Result != c.want || dkim.DMARC.Result != c.want {
			t.Errorf("%s: by SPF %+v, by DKIM %+v, want %s", name, spf.DMARC, dkim.DMARC, c.want)
		}
		if c.want == Pass && (spf.From.By != "spf" || spf.From.Via != c.other || dkim.From.By != "dkim") {
			t.Errorf("%s: %+v, %+v", name, spf.From, dkim.From)
		}
	}
}

// A18, and that nobody slips through by what a mail client reads otherwise.
func TestWhoseMailItSaysItIs(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]string{
		"From: a@example.com":                                            "example.com",
		"From: \"A, B\" <a@Example.COM>":                                 "example.com",
		"From: =?utf-8?q?J=C3=B6?=\n =?utf-8?q?rg?= <a@example.com>":     "example.com",
		"From: =?x-unheard-of?q?J?= <a@example.com>":                     "example.com",
		"From: a@b\u00fccher.example":                                    "xn--bcher-kva.example",
		"From: a@example.com, b@example.com":                             "example.com",
		"From: a@example.com, b@example.net":                             "",
		"From: root (Cron Daemon)":                                       "",
		"From:":                                                          "",
		"From: <>":                                                       "",
		"From: a@[192.0.2.1]":                                            "",
		"Subject: x":                                                     "",
		"From: a@example.com\nFrom: b@example.com":                       "",
		"From: friends: a@example.com, b@example.com;":                   "example.com",
		"From: Bad [Name] <a@example.com>":                               "example.com",
		"From: \"x@good.example\" <a@evil.example":                       "evil.example",
		"From: a@good.example (<b@x.example>) <a@evil.example>":          "evil.example",
		"From: Boss <boss@good.example> <a@evil.example>":                "",
		"From: boss@good.example; a@evil.example":                        "",
		"From: boss@good.example; <a@evil.example>":                      "",
		"From: boss@good.example a@evil.example":                         "",
		"From: boss@good.example@evil.example":                           "",
		"From: <boss@good.example@evil.example>":                         "",
		"From: <boss@good.example a@evil.example>":                       "",
		"From: \"boss@good.example\"@evil.example":                       "evil.example",
		"From: Doe, Ann <a@example.com>":                                 "example.com",
		"From: a@example.com; b@example.com;":                            "example.com",
		"From: <@relay.example:a@example.com>":                           "",
		"From: a@good.example> <a@evil.example>, b@other.example":        "",
		"From: \"unclosed <a@evil.example>":                              "",
		"From: a@exa_mple.com":                                           "exa_mple.com",
		"From: a@example..com":                                           "",
		"From: a@" + strings.Repeat("x", 64) + ".example":                "",
		"From: a@example.com.":                                           "example.com",
		"From: \xff\xfe <a@example.com>":                                 "example.com",
		"From: " + strings.Repeat("(", 10_000) + " a@example.com":        "",
		"From: " + strings.Repeat("<a@example.com>,", 10_000) + "a@b.cd": "",
	} {
		got, why := authorDomain(header.Parse([]byte(crlf(field) + "\r\n\r\n")))
		if got != want || (got == "") != (why != "") {
			t.Errorf("%.60q: %q (%s), want %q", field, got, why, want)
		}
	}
}

func TestIPRev(t *testing.T) {
	t.Parallel()
	z := zone{
		reverse("192.0.2.1"): {ptr: []string{"other.example.", "Mail.example."}}, "mail.example": host("192.0.2.7", "192.0.2.1"), "other.example": host("192.0.2.9"),
		reverse("2001:db8::1"): {ptr: []string{"six.example."}}, "six.example": host("2001:db8::1"),
		reverse("192.0.2.2"): {ptr: []string{"other.example."}},
		reverse("192.0.2.3"): {fail: true},
		reverse("192.0.2.4"): {ptr: []string{"down.example."}}, "down.example": {fail: true},
	}
	for i := range 11 {
		r := z[reverse("192.0.2.5")]
		r.ptr = append(r.ptr, fmt.Sprintf("n%d.example.", i))
		z[reverse("192.0.2.5")] = r
	}
	z["n10.example"] = host("192.0.2.5")
	z[reverse("192.0.2.7")] = records{ptr: []string{`a\".example.`, `b\.forwarder.example.`}}
	z[`a\".example`], z[`b\.forwarder.example`] = host("192.0.2.7"), host("192.0.2.7")
	for addr, want := range map[string]string{
		"192.0.2.7": "fail ", "192.0.2.1": "pass mail.example", "2001:db8::1": "pass six.example", "::ffff:192.0.2.1": "pass mail.example",
		"192.0.2.2": "fail ", "192.0.2.3": "temperror ", "192.0.2.4": "temperror ", "192.0.2.5": "fail ", "192.0.2.6": "permerror ", "": "none ",
	} {
		c := &check{dns: newBudget(z, time.Second)}
		if addr != "" {
			c.peer = netip.MustParseAddr(addr).Unmap()
		}
		r := c.checkIPRev(t.Context())
		if got := fmt.Sprint(r.Result, " ", r.Name); got != want || (r.Result == Pass) != (r.Reason == "") {
			t.Errorf("%s: %q (%s), want %q", addr, got, r.Reason, want)
		}
	}
}
