package mailauth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/incoming-mx/incoming/header"
	"github.com/incoming-mx/incoming/policy"
)

// The keys of RFC 6376 appendix C and RFC 8463 appendix A.
const (
	brisbaneRSA = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt" +
		"IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhi" +
		"tdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
	testRSA = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/b" +
		"yYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
	brisbaneEd25519 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
)

// The example of RFC 6376 appendix A.
const rfc6376 = `DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
`

// The example of RFC 8463 appendix A: Ed25519 and RSA.
const rfc8463 = `DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
`

var rfcKeys = zone{
	"brisbane._domainkey.example.com":          txt(brisbaneRSA),
	"brisbane._domainkey.football.example.com": txt(brisbaneEd25519),
	"test._domainkey.football.example.com":     txt(testRSA),
}

func TestDKIMVectorsOfTheRFCs(t *testing.T) {
	t.Parallel()
	got := send(t, Options{Resolver: rfcKeys}, letter{peer: "192.0.2.1", helo: "x.example", from: "joe@football.example.com", text: rfc6376})
	if len(got.DKIM) != 1 || got.DKIM[0] != (DKIM{Result: Pass, Domain: "example.com", Selector: "brisbane", Signature: "AuUoFEfD"}) {
		t.Errorf("RFC 6376: %+v", got.DKIM)
	}
	got = send(t, Options{Resolver: rfcKeys}, letter{peer: "192.0.2.1", helo: "x.example", from: "joe@football.example.com", text: rfc8463})
	if len(got.DKIM) != 2 || got.DKIM[0].Result != Pass || got.DKIM[1].Result != Pass || got.DKIM[1].Selector != "test" {
		t.Errorf("RFC 8463: %+v", got.DKIM)
	}
	if want := (From{Domain: "football.example.com", Result: Pass, By: "dkim", Via: "football.example.com"}); got.From != want {
		t.Errorf("From is %+v, want %+v", got.From, want)
	}
	broken := strings.Replace(rfc8463, "lost", "won", 1)
	got = send(t, Options{Resolver: rfcKeys}, letter{peer: "192.0.2.1", helo: "x.example", from: "joe@football.example.com", text: broken})
	if got.DKIM[0].Result != Fail || got.DKIM[1].Result != Fail || got.From.Result != Fail {
		t.Errorf("a changed body: %+v", got.Results)
	}
}

// signer signs in the tests' name: selector s of a domain, whose key is in keys.
var (
	signerPublic, signerPrivate = func() (ed25519.PublicKey, ed25519.PrivateKey) {
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
		return key.Public().(ed25519.PublicKey), key
	}()
	signerKey = "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(signerPublic)
)

func sign(t testing.TB, domain, text string) string {
	t.Helper()
	return signWith(t, text, &dkim.SignOptions{Domain: domain})
}

// signWith fills in what o leaves open, as sign has it.
func signWith(t testing.TB, text string, o *dkim.SignOptions) string {
	t.Helper()
	o.Selector, o.Signer, o.Hash = "s", crypto.Signer(signerPrivate), crypto.SHA256
	o.HeaderCanonicalization, o.BodyCanonicalization = dkim.CanonicalizationRelaxed, dkim.CanonicalizationRelaxed
	var b strings.Builder
	if err := dkim.Sign(&b, strings.NewReader(crlf(text)), o); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(b.String(), "\r\n", "\n")
}

// A01, A02, A03, A05: each with the neighbour that must not pass.
func TestSignaturesThatBrokeOthers(t *testing.T) {
	t.Parallel()
	const plain = "From: a@example.com\nSubject: hi\n\nBody\n"
	dup := sign(t, "example.com", "Message-Id: <1@x>\nFrom: a@example.com\n\nBody\n")
	for name, c := range map[string]struct {
		text string
		key  records
		want Result
	}{
		"plain":                       {sign(t, "example.com", plain), txt(signerKey), Pass},
		"a header named twice (A01)":  {dup, txt(signerKey), Pass},
		"no body (A03)":               {sign(t, "example.com", "From: a@example.com\n\n"), txt(signerKey), Pass},
		"no empty line (A03)":         {strings.TrimSuffix(sign(t, "example.com", "From: a@example.com\n\n"), "\n"), txt(signerKey), Pass},
		"blank lines at the end":      {sign(t, "example.com", plain) + "\n\n\n", txt(signerKey), Pass},
		"text at the end":             {sign(t, "example.com", plain) + "more\n", txt(signerKey), Fail},
		"a second From":               {"From: x@evil.example\n" + sign(t, "example.com", plain), txt(signerKey), Pass}, // DMARC sees to it
		"l= (A05)":                    {strings.Replace(sign(t, "example.com", plain), "v=1;", "v=1; l=4;", 1), txt(signerKey), Policy},
		"expired (A05)":               {strings.Replace(sign(t, "example.com", plain), "v=1;", "v=1; x=1000000000;", 1), txt(signerKey), PermError},
		"SHA-1 (A05)":                 {strings.Replace(rfc6376, "rsa-sha256", "rsa-sha1", 1), txt(brisbaneRSA), Policy},
		"revoked (A05)":               {sign(t, "example.com", plain), txt("v=DKIM1; p="), PermError},
		"RSA of 512 bits (A05)":       {rfc6376, txt("v=DKIM1; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAL7nX1O+DnKHk1fMzOTTfSpoYOGRJcWKSCFVVlZHI+rQm1KLdNqQZeb0FGv0z1vMYMBG6J8L6JgIIaYTT1sMUz0CAwEAAQ=="), PermError},
		"no key":                      {sign(t, "example.com", plain), records{}, PermError},
		"two keys":                    {sign(t, "example.com", plain), txt(signerKey, signerKey), PermError},
		"no answer (A14)":             {sign(t, "example.com", plain), records{fail: true}, TempError},
		"no tags":                     {"DKIM-Signature: \n" + plain, txt(signerKey), PermError},
		"another's domain":            {strings.Replace(sign(t, "example.com", plain), "d=example.com", "d=example.net", 1), txt(signerKey), PermError},
		"a domain that is none":       {strings.Replace(sign(t, "example.com", plain), "d=example.com", "d=exa mple..com", 1), txt(signerKey), PermError},
		"a megabyte of blank lines":   {sign(t, "example.com", plain) + strings.Repeat("\n", 1<<20) + "x\n", txt(signerKey), Policy},
		"a megabyte of spaces a line": {sign(t, "example.com", plain) + strings.Repeat(" \t", 1<<19) + "\n", txt(signerKey), Policy},
	} {
		z := zone{"s._domainkey.example.com": c.key, "brisbane._domainkey.example.com": c.key}
		got := send(t, Options{Resolver: z}, letter{peer: "192.0.2.1", helo: "x.example", from: "a@example.com", text: c.text})
		if len(got.DKIM) != 1 || got.DKIM[0].Result != c.want {
			t.Errorf("%s: %+v, want %s", name, got.DKIM, c.want)
		}
	}
}

// A02: however the body comes in pieces, the hash is the same.
func TestNoSplitOfTheTextChangesASignature(t *testing.T) {
	t.Parallel()
	text := crlf(sign(t, "example.com", "From: a@example.com\n\none \t\ntwo\n\n\nthree  x\n\n\n"))
	z := zone{"s._domainkey.example.com": txt(signerKey)}
	for i := range len(text) {
		open := func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(text[:i]), strings.NewReader(text[i:]))), nil
		}
		got := sendText(t, Options{Resolver: z}, letter{peer: "192.0.2.1", from: "a@example.com"}, header.Parse([]byte(text)), open, nil)
		if got.DKIM[0].Result != Pass {
			t.Fatalf("split at %d: %+v", i, got.DKIM)
		}
	}
}

func TestEightSignaturesAreLookedAtAndTheTextOnce(t *testing.T) {
	t.Parallel()
	text := "From: a@example.com\nSubject: hi\n\nBody\n"
	for range 20 {
		text = sign(t, "example.com", text)
	}
	opened := 0
	open := func() (io.ReadCloser, error) {
		opened++
		return io.NopCloser(strings.NewReader(crlf(text))), nil
	}
	z := zone{"s._domainkey.example.com": txt(signerKey)}
	got := sendText(t, Options{Resolver: z}, letter{peer: "192.0.2.1", from: "a@example.com"}, header.Parse([]byte(crlf(text))), open, nil)
	if len(got.DKIM) != 8 || opened != 1 {
		t.Errorf("%d signatures, the text was opened %d times", len(got.DKIM), opened)
	}
	for _, d := range got.DKIM {
		if d.Result != Pass {
			t.Errorf("%+v", d)
		}
	}
}

func TestATextThatCannotBeReadIsNoVerdict(t *testing.T) {
	t.Parallel()
	text := crlf(sign(t, "example.com", "From: a@example.com\n\nBody\n"))
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(text[:len(text)-3]), failing{})), nil
	}
	z := zone{"s._domainkey.example.com": txt(signerKey)}
	got := sendText(t, Options{Resolver: z}, letter{peer: "192.0.2.1", from: "a@example.com"}, header.Parse([]byte(text)), open, nil)
	if got.reply == nil || got.reply.Code != 451 || !strings.Contains(got.ref.Reason, "disk") {
		t.Errorf("it was answered %v, %+v", got.reply, got.ref)
	}
}

// The library reads several signatures in goroutines, which must end however the
// text does: TestMain counts them.
func TestNoGoroutineOfAVerificationOutlivesIt(t *testing.T) {
	t.Parallel()
	z := zone{"s._domainkey.example.com": txt(signerKey)}
	two := crlf(sign(t, "example.com", sign(t, "example.com", plain)))
	blank := two + strings.Repeat("\r\n", maxBlank) + "x\r\n"
	for name, c := range map[string]struct {
		text string
		end  io.Reader
		want string
	}{
		"blank lines":        {blank, strings.NewReader(""), string(Policy)},
		"the text breaks":    {two, failing{}, "451"},
		"and in the header":  {two[:20], failing{}, "451"},
		"its end is missing": {two[:len(two)-3], strings.NewReader(""), string(Fail)},
	} {
		open := func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(c.text), c.end)), nil
		}
		got := sendText(t, Options{Resolver: z}, letter{peer: "192.0.2.1", from: "a@example.com"}, header.Parse([]byte(two)), open, nil)
		switch {
		case got.reply != nil:
			if c.want != "451" || got.reply.Code != 451 {
				t.Errorf("%s: %v", name, got.reply)
			}
		case len(got.DKIM) != 2 || string(got.DKIM[0].Result) != c.want || string(got.DKIM[1].Result) != c.want:
			t.Errorf("%s: %+v, want %s", name, got.DKIM, c.want)
		}
	}
}

// A panic in a goroutine of the library's would be the end of the server.
func TestAPanicForAKeyIsAnswered451(t *testing.T) {
	t.Parallel()
	// The hello's question is answered, the keys' are not; nobody asked for them
	// before, for nothing is tapped.
	text := crlf(sign(t, "example.com", sign(t, "example.com", plain)))
	v, err := New(Options{Resolver: panicsForKeys{good()}})
	if err != nil {
		t.Fatal(err)
	}
	tx := &policy.Transaction{Header: header.Parse([]byte(text)), Size: int64(len(text)),
		OpenText: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
	err = v.Check(t.Context(), policy.StageMessage, tx)
	if err == nil || !strings.Contains(err.Error(), "a strange key") {
		t.Errorf("it answered %v", err)
	}
}

type panicsForKeys struct{ zone }

func (p panicsForKeys) LookupTXT(ctx context.Context, name string) ([]string, error) {
	if strings.Contains(name, "_domainkey") {
		panic("a strange key")
	}
	return p.zone.LookupTXT(ctx, name)
}

// What a stranger makes us compute has bounds: at each the last that is checked, and
// the first that is not.
func TestSignaturesThatWouldCostMuchAreNotChecked(t *testing.T) {
	t.Parallel()
	named := func(n int) string {
		keys := append([]string{"From"}, slices.Repeat([]string{"X"}, n-1)...)
		return signWith(t, plain, &dkim.SignOptions{Domain: "example.com", HeaderKeys: keys})
	}
	keyOf := func(n int) records {
		return txt(signerKey + "; n=" + strings.Repeat("x", n-len(signerKey)-len("; n=")))
	}
	for name, c := range map[string]struct {
		text string
		key  records
		want Result
	}{
		"as many names as may be": {named(maxNames), txt(signerKey), Pass},
		"one more":                {named(maxNames + 1), txt(signerKey), Policy},
		"a key as long as may be": {sign(t, "example.com", plain), keyOf(maxKey), Pass},
		"an octet more":           {sign(t, "example.com", plain), keyOf(maxKey + 1), PermError},
	} {
		z := zone{"s._domainkey.example.com": c.key}
		got := send(t, Options{Resolver: z}, letter{peer: "192.0.2.1", from: "a@example.com", text: c.text})
		if got.DKIM[0].Result != c.want || c.want != Pass && got.From.Result == Pass {
			t.Errorf("%s: %+v, want %s", name, got.DKIM[0], c.want)
		}
	}
}

// RFC 8616: in a message with letters beyond ASCII d= and s= may have them too.
func TestASignatureMayNameItsDomainInItsOwnLetters(t *testing.T) {
	t.Parallel()
	dns := &asked{zone: zone{"s._domainkey.xn--bcher-kva.example": txt(signerKey)}}
	text := sign(t, "B\u00fccher.example", "From: a@b\u00fccher.example\n\nBody\n")
	got := send(t, Options{Resolver: dns}, letter{peer: "192.0.2.1", text: text})
	if got.DKIM[0].Result != Pass || got.From != (From{Domain: "xn--bcher-kva.example", Result: Pass, By: "dkim", Via: "xn--bcher-kva.example"}) {
		t.Errorf("%+v, %+v", got.DKIM, got.From)
	}
	if n := len(slices.DeleteFunc(dns.names, func(n string) bool { return !strings.Contains(n, "_domainkey") })); n != 1 {
		t.Errorf("the key was asked for %d times", n)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

// TestFiftyMegabytesInConstantMemory: 8 signatures over 50 MB.
func TestFiftyMegabytesInConstantMemory(t *testing.T) {
	body := strings.Repeat("All work and no play makes Jack a dull boy.\r\n", 1000)
	n := 50 << 20 / len(body)
	if raceEnabled { // which makes hashing take longer than a policy has
		n /= 10
	}
	head := "From: a@example.com\r\n\r\n"
	whole := func(head string) io.Reader {
		parts := []io.Reader{strings.NewReader(head)}
		for range n {
			parts = append(parts, strings.NewReader(body))
		}
		return io.MultiReader(parts...)
	}
	w := &firstField{}
	err := dkim.Sign(w, whole(head), &dkim.SignOptions{Domain: "example.com", Selector: "s", Signer: crypto.Signer(signerPrivate),
		Hash: crypto.SHA256, HeaderKeys: []string{"From"}, BodyCanonicalization: dkim.CanonicalizationRelaxed})
	if err != nil {
		t.Fatal(err)
	}
	signed := strings.Repeat(w.field(), 8)
	z := zone{"s._domainkey.example.com": txt(signerKey)}
	h := header.Parse([]byte(signed + head))
	high := uint64(0)
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(io.TeeReader(whole(signed+head), &memory{high: &high})), nil
	}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	got := sendText(t, Options{Resolver: z}, letter{peer: "192.0.2.1", from: "a@example.com"}, h, open, nil)
	for i, d := range got.DKIM {
		if d.Result != Pass {
			t.Errorf("signature %d: %+v", i, d)
		}
	}
	most := int64(n*len(body)) / 4
	if grown := int64(high) - int64(before.HeapAlloc); len(got.DKIM) != 8 || grown > most && !raceEnabled {
		t.Errorf("%d signatures; the heap grew by %d octets", len(got.DKIM), grown)
	}
}

// memory looks at the heap now and then as text goes by.
type memory struct {
	high *uint64
	n    int
}

func (m *memory) Write(p []byte) (int, error) {
	if m.n++; m.n%100 == 0 {
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		*m.high = max(*m.high, s.HeapAlloc)
	}
	return len(p), nil
}

// firstField keeps the first header field that is written.
type firstField struct{ b []byte }

func (w *firstField) Write(p []byte) (int, error) {
	if len(w.b) < 4096 {
		w.b = append(w.b, p...)
	}
	return len(p), nil
}

func (w *firstField) field() string {
	for f := range header.Parse(w.b).Fields() {
		return string(f.Raw)
	}
	return ""
}
