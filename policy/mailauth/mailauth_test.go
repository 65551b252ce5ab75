package mailauth

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
	"github.com/incoming-mx/incoming/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// good is a world in which example.com sends from 192.0.2.1, signs, and wants the
// rest refused.
func good() zone {
	return zone{
		"example.com":               {txt: []string{"v=spf1 ip4:192.0.2.1 -all"}, ips: []net.IP{{192, 0, 2, 1}}},
		"mail.example.com":          {txt: []string{"v=spf1 ip4:192.0.2.1 -all"}, ips: []net.IP{{192, 0, 2, 1}}},
		"s._domainkey.example.com":  txt(signerKey),
		"s._domainkey.list.example": txt(signerKey),
		"_dmarc.example.com":        txt("v=DMARC1; p=reject"),
		"_dmarc.soft.example":       txt("v=DMARC1; p=quarantine"),
		"_dmarc.down.example":       {fail: true},
		reverse("192.0.2.1"):        {ptr: []string{"mail.example.com."}},
		reverse("198.51.100.7"):     {ptr: []string{"relay.forwarder.example."}},
		"relay.forwarder.example":   host("198.51.100.7"),
	}
}

const plain = "From: Ann <a@example.com>\nSubject: hi\n\nBody\n"

func TestWhatIsFoundStandsInTheFieldOnTop(t *testing.T) {
	t.Parallel()
	got := send(t, Options{Resolver: good()}, letter{peer: "192.0.2.1", helo: "mail.example.com", from: "a@example.com", text: sign(t, "example.com", plain)})
	b := got.DKIM[0].Signature
	want := "Authentication-Results: mx.example.org;\r\n" +
		"\tspf=pass reason=\"matched ip\" smtp.mailfrom=example.com;\r\n" +
		"\tspf=pass reason=\"matched ip\" smtp.helo=mail.example.com;\r\n" +
		"\tdkim=pass header.d=example.com header.s=s header.b=" + value(b) + ";\r\n" +
		"\tdmarc=pass header.from=example.com;\r\n" +
		"\tiprev=pass policy.iprev=192.0.2.1\r\n"
	if got.field() != want {
		t.Errorf("got\n%s\nwant\n%s", got.field(), want)
	}
	if got.IPRev.Name != "mail.example.com" || got.From != (From{Domain: "example.com", Result: Pass, By: "dkim", Via: "example.com"}) ||
		got.DMARC != (DMARC{Result: Pass, Domain: "example.com", Asked: DoReject, Record: "example.com", Disposition: DoNothing}) {
		t.Errorf("%+v", got.Results)
	}
	// Nothing known, nobody there, a Unix socket.
	got = send(t, Options{Resolver: zone{}, AuthservID: "id.example"}, letter{helo: "x", from: "", text: "Subject: x\n\n"})
	want = "Authentication-Results: id.example;\r\n\tspf=none reason=\"the client has no IP address\";\r\n\tdkim=none;\r\n\tdmarc=none reason=\"no From field\"\r\n"
	if got.field() != want || got.From.Result != None || got.reply != nil {
		t.Errorf("got\n%s\nwant\n%s", got.field(), want)
	}
	// What a peer chose is never an escape from the field.
	got = send(t, Options{Resolver: zone{}}, letter{peer: "192.0.2.1", helo: "x;y=\"z\"", from: "a@b\x01c;d", text: "DKIM-Signature: d=a;s=b;b=\"\\;(\x00)\u00fc\nFrom: a@b.example\n\n"})
	for line := range strings.Lines(got.field()) {
		if strings.ContainsAny(strings.TrimSuffix(line, "\r\n"), "\r\n\x00\x01") || !strings.Contains(line, "=") && !strings.HasPrefix(line, "Auth") {
			t.Errorf("a line %q", line)
		}
	}
}

// A11.
func TestForgedFieldsOfOursAreRemovedAndNoOthers(t *testing.T) {
	t.Parallel()
	for value, removed := range map[string]bool{
		"mx.example.org; dkim=pass":             true,
		"mx.example.org":                        true,
		"MX.Example.ORG.; dkim=pass":            true,
		"mx.example.org 1; dkim=pass":           true,
		"mx.example.org/1; dkim=pass":           true,
		"(a (nested) comment) mx.example.org;":  true,
		"(\\)) mx.example.org;":                 true,
		"\n mx.example.org; dkim=pass":          true,
		"mx.example.org(x); dkim=pass":          true,
		"\"mx.example.org\"; dkim=pass":         true,
		"\"mx.\\example.org\"; dkim=pass":       true,
		"mx.example.org dkim=pass":              true,
		"mx.example.org, dkim=pass":             true,
		"mx.example.org\x00; dkim=pass":         true,
		"\x00mx.example.org; dkim=pass":         true,
		"mx.\u200bexample.org; dkim=pass":       true,
		"\uff4dx.example.org; dkim=pass":        true,
		"=?utf-8?q?mx=2Eexample.org?=; x":       true,
		"=?x?b?bXguZXhhbXBsZS5vcmc7IGRraW09?=":  true,
		"=?utf-8?q?mx.example.net?=; x":         false,
		"mx.example.net; dkim=pass":             false,
		"other.mx.example.org; dkim=pass":       false,
		"(mx.example.org) mx.example.net; none": false,
		"":                                      false,
	} {
		text := "Subject: x\nAuthentication-results : " + value + "\nFrom: a@example.com\n\nBody\n"
		got := send(t, Options{Resolver: good()}, letter{peer: "192.0.2.1", helo: "x", from: "a@example.com", text: text})
		if (len(got.t.Removed()) == 1) != removed || len(got.t.Removed()) > 1 {
			t.Errorf("%q: removed %d, want %t", value, len(got.t.Removed()), removed)
		}
	}
}

// A07, A08, A09, A12 and A14, as far as they are SPF's.
func TestSPFRecordsThatBrokeOthers(t *testing.T) {
	t.Parallel()
	includes := ""
	z := zone{}
	mx := records{txt: []string{"v=spf1 mx -all"}}
	for i := range 11 {
		includes += fmt.Sprintf(" include:i%d.example", i)
		z[fmt.Sprintf("i%d.example", i)] = txt("v=spf1 ip4:203.0.113.1 -all")
		mx.mx = append(mx.mx, &net.MX{Host: fmt.Sprintf("m%d.example", i)})
		z[fmt.Sprintf("m%d.example", i)] = host("203.0.113.9")
	}
	for name, c := range map[string]struct {
		records records
		peer    string
		want    Result
	}{
		"a zero width space (A07)":    {txt("v=spf1 ip4:192.0.2.1\u200b -all"), "192.0.2.1", PermError},
		"one behind the version":      {txt("v=spf1\u200b -all"), "192.0.2.1", None},
		"10 KB (A07)":                 {txt("v=spf1 " + strings.Repeat("ip4:203.0.113.1 ", 640) + "-all"), "192.0.2.1", Fail},
		"quotes (A07)":                {txt(`"v=spf1 +all"`), "192.0.2.1", None},
		"the address has no answer":   {txt("v=spf1 a:down.example +all"), "192.0.2.1", TempError}, // A08
		"11 hosts of mail (A09)":      {mx, "192.0.2.1", PermError},
		"11 includes (A09)":           {txt("v=spf1" + includes + " +all"), "192.0.2.1", PermError},
		"10 includes (A09)":           {txt("v=spf1" + strings.TrimSuffix(includes, " include:i10.example") + " +all"), "192.0.2.1", Pass},
		"3 lookups of nothing (A09)":  {txt("v=spf1 a:n1.example a:n2.example a:n3.example +all"), "192.0.2.1", PermError},
		"2 lookups of nothing (A09)":  {txt("v=spf1 a:n1.example a:n2.example +all"), "192.0.2.1", Pass},
		"IPv6, and only IPv4 (A09)":   {records{txt: []string{"v=spf1 a -all"}, ips: []net.IP{{192, 0, 2, 1}}}, "2001:db8::1", Fail},
		"itself":                      {txt("v=spf1 redirect=sender.example"), "192.0.2.1", PermError},
		"includes itself":             {txt("v=spf1 include:sender.example +all"), "192.0.2.1", PermError},
		"two records":                 {txt("v=spf1 +all", "v=spf1 -all"), "192.0.2.1", PermError},
		"no answer (A14)":             {records{fail: true}, "192.0.2.1", TempError},
		"an address of 4 in 6 octets": {txt("v=spf1 ip4:192.0.2.1 -all"), "::ffff:192.0.2.1", Pass},
	} {
		z := mapsWith(z, "sender.example", c.records)
		z["down.example"] = records{fail: true}
		got := send(t, Options{Resolver: z}, letter{peer: c.peer, helo: "x", from: "a@sender.example", text: plain})
		if got.SPF[0].Result != c.want || got.reply != nil {
			t.Errorf("%s: %+v %v, want %s", name, got.SPF, got.reply, c.want)
		}
	}
	// A12: MAIL FROM's comes first, in the fact and in the field.
	z["sender.example"] = txt("v=spf1 ip4:192.0.2.1 -all")
	got := send(t, Options{Resolver: z}, letter{peer: "192.0.2.1", helo: "helo.example", from: "a@sender.example", text: plain})
	if len(got.SPF) != 2 || got.SPF[0].Identity != MailFrom || got.SPF[0].Result != Pass || got.SPF[1] != (SPF{Identity: Helo, Result: None, Domain: "helo.example"}) {
		t.Errorf("%+v", got.SPF)
	}
	if i, j := strings.Index(got.field(), "smtp.mailfrom"), strings.Index(got.field(), "smtp.helo"); i < 0 || j < i {
		t.Error(got.field())
	}
	// A bounce has its hello's alone, and an "@" in quotes moves no domain.
	got = send(t, Options{Resolver: z}, letter{peer: "192.0.2.1", helo: "sender.example", from: "", text: plain})
	if len(got.SPF) != 1 || got.SPF[0].Identity != Helo || got.SPF[0].Result != Pass {
		t.Errorf("%+v", got.SPF)
	}
	z["victim.example"] = txt("v=spf1 -all")
	got = send(t, Options{Resolver: z}, letter{peer: "192.0.2.1", helo: "x", from: `"a@sender.example"@victim.example`, text: plain})
	if got.SPF[0].Result != Fail || got.SPF[0].Domain != "victim.example" {
		t.Errorf("%+v", got.SPF)
	}
}

func mapsWith(z zone, name string, r records) zone {
	all := zone{name: r}
	for n, r := range z {
		all[n] = r
	}
	return all
}

func TestOnlyLookingIsTheDefault(t *testing.T) {
	t.Parallel()
	got := send(t, Options{Resolver: good()}, letter{peer: "203.0.113.1", helo: "x", from: "a@example.com", text: plain})
	if got.reply != nil || got.t.Quarantined() != "" || got.DMARC.Result != Fail || got.DMARC.Disposition != DoReject || got.SPF[0].Result != Fail {
		t.Errorf("%v %q %+v", got.reply, got.t.Quarantined(), got.Results)
	}
}

func TestEnforcing(t *testing.T) {
	t.Parallel()
	const forged = "203.0.113.1"
	o := Options{Resolver: good(), Enforce: true, Forwarders: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/30")}, ForwarderDomains: []string{"forwarder.example"}}
	for name, c := range map[string]struct {
		letter
		reply int
		mark  string // within the mark of quarantine; "" for none
	}{
		"all is well":            {letter{peer: "192.0.2.1", from: "a@example.com", text: sign(t, "example.com", plain)}, 0, ""},
		"by its path alone":      {letter{peer: "192.0.2.1", from: "a@example.com", text: plain}, 0, ""},
		"by its signature":       {letter{peer: forged, from: "a@elsewhere.example", text: sign(t, "example.com", plain)}, 0, ""},
		"forged":                 {letter{peer: forged, from: "a@elsewhere.example", text: plain}, 550, ""},
		"forged, bounce":         {letter{peer: forged, helo: "x.example", from: "", text: plain}, 550, ""},
		"signed by another":      {letter{peer: forged, from: "a@elsewhere.example", text: sign(t, "list.example", plain)}, 0, "signed by list.example"},
		"a signature that fails": {letter{peer: forged, from: "a@elsewhere.example", text: sign(t, "example.com", plain) + "x"}, 550, ""},
		"through a list":         {letter{peer: forged, from: "a@elsewhere.example", text: "List-Id: <l.example>\n" + plain}, 0, "sent through a list"},
		"by a listed network":    {letter{peer: "198.51.100.2", from: "a@elsewhere.example", text: plain}, 0, "listed forwarder"},
		"by a listed name":       {letter{peer: "198.51.100.7", from: "a@elsewhere.example", text: plain}, 0, "listed forwarder"},
		"quarantine asked for":   {letter{peer: forged, from: "a@elsewhere.example", text: strings.Replace(plain, "example.com", "soft.example", 1)}, 0, "p=quarantine"},
		"SPF fails alone":        {letter{peer: forged, from: "a@example.com", text: strings.Replace(plain, "example.com", "nobody.example", 1)}, 0, ""},
		"the DNS is down":        {letter{peer: forged, from: "a@elsewhere.example", text: strings.Replace(plain, "example.com", "down.example", 1)}, 0, ""},
		"two authors":            {letter{peer: forged, from: "a@elsewhere.example", text: strings.Replace(plain, "Ann", "b@evil.example,", 1)}, 0, ""},
	} {
		got := send(t, o, c.letter)
		code := 0
		if got.reply != nil {
			code = got.reply.Code
		}
		if code != c.reply || (got.t.Quarantined() == "") != (c.mark == "") || !strings.Contains(got.t.Quarantined(), c.mark) {
			t.Errorf("%s: %v, mark %q; want %d, %q", name, got.reply, got.t.Quarantined(), c.reply, c.mark)
		}
		if code == 550 && (got.ref.Rule != "p=reject" || len(got.ref.Inputs) == 0 || got.ref.Ref == "" || !strings.HasPrefix(got.ref.Reason, "DMARC: example.com fails, p=reject")) {
			t.Errorf("%s: %+v does not explain", name, got.ref)
		}
	}
}

// A08, A14: trouble with the DNS is never a pass, and is 451 4.4.3 where that is
// wanted.
func TestTroubleWithTheDNS(t *testing.T) {
	t.Parallel()
	z := good()
	z["_dmarc.example.com"] = records{fail: true}
	z["s._domainkey.example.com"] = records{fail: true}
	for name, c := range map[string]struct {
		letter
		code int
		from Result
	}{
		"nothing is known":                    {letter{peer: "203.0.113.1", from: "a@elsewhere.example", text: plain}, 451, Fail},
		"the key is not known":                {letter{peer: "203.0.113.1", from: "a@elsewhere.example", text: sign(t, "example.com", plain)}, 451, TempError},
		"the path vouches, whatever is asked": {letter{peer: "192.0.2.1", from: "a@example.com", text: plain}, 0, Pass},
		"the path may vouch":                  {letter{peer: "192.0.2.1", from: "a@mail.example.com", text: plain}, 451, TempError},
	} {
		for _, deferring := range []bool{false, true} {
			got := send(t, Options{Resolver: z, DeferTemperror: deferring}, c.letter)
			code := 0
			if got.reply != nil {
				code = got.reply.Code
			}
			want := 0
			if deferring {
				want = c.code
			}
			if code != want || want == 451 && got.reply.Enhanced != (smtp.EnhancedCode{4, 4, 3}) {
				t.Errorf("%s, deferring %t: %v, want %d", name, deferring, got.reply, want)
			}
			if got.DMARC.Result != TempError || got.From.Result != c.from {
				t.Errorf("%s: %+v %+v", name, got.DMARC, got.From)
			}
		}
	}
}

// A14: one budget for all the questions of a message, and not for the time its text
// takes.
func TestTheBudgetIsForTheDNSAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := good()
		for _, name := range []string{"example.com", "_dmarc.example.com", "s._domainkey.example.com", reverse("192.0.2.1")} {
			z[name] = records{hang: true}
		}
		v, err := New(Options{Resolver: z})
		if err != nil {
			t.Fatal(err)
		}
		chain := policy.NewChain([]policy.Policy{v}, nil)
		tx := &policy.Transaction{Hostname: "mx.example.org", Hello: "x.example", Peer: netip.MustParseAddrPort("192.0.2.1:25")}
		tx.Begin(smtp.ParsePath("a@example.com"), smtp.MailParams{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		begun := time.Now()
		chain.Tap(ctx, tx)
		tx.Header = header.Parse([]byte(crlf(plain)))
		if err := chain.Check(ctx, policy.StageHeader, tx); err != nil {
			t.Fatal(err)
		}
		if err := chain.Check(ctx, policy.StageMessage, tx); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != 8*time.Second {
			t.Errorf("it took %v", took)
		}
		b := newBudget(good(), time.Second)
		time.Sleep(time.Hour) // within synctest: the text is slow
		if _, err := b.LookupTXT(ctx, "example.com"); err != nil {
			t.Error(err)
		}
	})
}

// A08: what has no policy may still be vouched for by what the DNS does not tell.
func TestTroubleIsDeferredWhereNoPolicyApplies(t *testing.T) {
	t.Parallel()
	z := zone{"sender.example": txt("v=spf1 a:down.example +all"), "down.example": {fail: true}, "other.example": txt("v=spf1 -all")}
	text := "From: a@sender.example\n\nBody\n"
	for from, want := range map[string]struct {
		from Result
		code int
	}{"a@sender.example": {TempError, 451}, "a@other.example": {Fail, 0}} {
		got := send(t, Options{Resolver: z, DeferTemperror: true}, letter{peer: "192.0.2.1", from: from, text: text})
		code := 0
		if got.reply != nil {
			code = got.reply.Code
		}
		if code != want.code || got.From.Result != want.from || got.DMARC.Result != None {
			t.Errorf("%s: %d, %+v, %+v; want %+v", from, code, got.From, got.DMARC, want)
		}
		if got := send(t, Options{Resolver: z}, letter{peer: "192.0.2.1", from: from, text: text}); got.reply != nil {
			t.Errorf("%s: %v, where it is to be accepted", from, got.reply)
		}
	}
}

// worst is a message that makes the results as long as can be.
func worst() letter {
	long := strings.TrimSuffix(strings.Repeat(strings.Repeat("a", 62)+".", 4), ".")
	signature := fmt.Sprintf("DKIM-Signature: v=1; a=x; d=%s; s=%s; h=from; bh=x; b=<<<<<<<<; x=%s\n", long, long, strings.Repeat("<&>", 100))
	return letter{peer: "192.0.2.1", helo: "b" + long[1:], from: "a@" + long, text: strings.Repeat(signature, 8) + "From: a@" + long + "\n\nBody\n"}
}

func TestAllResultsAreFarBelowWhatFactsMayBe(t *testing.T) {
	t.Parallel()
	got := send(t, Options{Resolver: zone{}}, worst())
	if n := len(got.t.Fact(Fact)); len(got.DKIM) != 8 || n < 5_000 || n > policy.MaxFacts/2+1_000 {
		t.Errorf("%d signatures, %d octets", len(got.DKIM), n)
	}
}

// A message that another policy has much to say of is not refused for our reasons.
func TestReasonsMakeRoomForTheFactsOfOthers(t *testing.T) {
	t.Parallel()
	v, err := New(Options{Resolver: zone{}})
	if err != nil {
		t.Fatal(err)
	}
	m := worst()
	text := crlf(m.text)
	for _, room := range []int{9_000, 6_000, 1_000} {
		tx := new(policy.Transaction)
		tx.Begin(smtp.ParsePath(m.from), smtp.MailParams{})
		tx.Header, tx.OpenText = header.Parse([]byte(text)), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
		if err := tx.SetFact("other.much", strings.Repeat("x", policy.MaxFacts-room-len("other.much")-2)); err != nil {
			t.Fatal(err)
		}
		err := v.Check(t.Context(), policy.StageMessage, tx)
		fact := string(tx.Fact(Fact))
		if (err != nil) != (room < 6_000) || (fact == "") != (err != nil) || strings.Contains(fact, "reason") != (room == 9_000) {
			t.Errorf("with room for %d: %v, %.100s", room, err, fact)
		}
	}
}

func TestNothingGoesOnOnceTheTransactionIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v, err := New(Options{Resolver: zone{"example.com": {hang: true}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		tx := &policy.Transaction{Peer: netip.MustParseAddrPort("192.0.2.1:25")}
		tx.Begin(smtp.ParsePath("a@example.com"), smtp.MailParams{})
		c := v.Tap(ctx, tx).(*check)
		synctest.Wait()
		cancel()
		begun := time.Now()
		c.begun.Wait()
		if time.Since(begun) > 0 {
			t.Error("it waited for its budget")
		}
	})
}

// A07: a panic of what judges a record is an error of that message's alone.
func TestAPanicIsAnswered451(t *testing.T) {
	t.Parallel()
	got := send(t, Options{Resolver: panicking{good()}}, letter{peer: "192.0.2.1", helo: "x", from: "a@example.com", text: plain})
	if got.reply == nil || got.reply.Code != 451 || !strings.Contains(got.ref.Reason, "a strange record") {
		t.Errorf("%v %+v", got.reply, got.ref)
	}
}

type panicking struct{ zone }

func (panicking) LookupTXT(context.Context, string) ([]string, error) { panic("a strange record") }

func TestNewWantsAResolverAndDomains(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Error("without a resolver")
	}
	for _, d := range []string{"", "a..b", "192.0.2.1/24", "a b"} {
		if _, err := New(Options{Resolver: zone{}, ForwarderDomains: []string{d}}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", d)) {
			t.Errorf("%q: %v", d, err)
		}
	}
}
