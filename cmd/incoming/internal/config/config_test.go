package config

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write the golden files anew")

var sameConfig = cmp.Options{
	cmpopts.EquateComparable(Network{}),
	cmp.AllowUnexported(Target{}),
	cmpopts.EquateComparable(Endpoint{}, SocketMode{}, Protocol{}, TLSMode{}, TLSVersion{}, ProxyMode{}, Policy{}, Newline{}, Format{}, LogFormat{}, LogLevel{}, LogAddresses{}, OnFailure{}, Stage{}, Filter{}, Temperror{}, Domain{}, HostPort{}, Hostname{}, DNSServer{}, DNSBLAction{}, Delimiters{}, Known{}, Prefix{}, AcceptMode{}),
}

func TestEveryFieldHasAKeyAndEveryKeyAField(t *testing.T) {
	t.Parallel()
	var fields []string
	collect(reflect.TypeFor[Config](), "", &fields)
	var keys []string
	for _, k := range Keys() {
		keys = append(keys, k.Name)
	}
	slices.Sort(fields)
	slices.Sort(keys)
	if d := cmp.Diff(fields, keys); d != "" {
		t.Errorf("fields of Config (-) and the table of keys (+) differ:\n%s", d)
	}
	for _, k := range Keys() {
		if k.Doc == "" || strings.HasSuffix(k.Doc, ".") || (k.Default == "") == (k.Example == "") {
			t.Errorf("%s: wants a doc without a full stop, and a default or an example", k.Name)
		}
	}
}

// collect gathers the dotted names of the leaves, by their toml tags.
func collect(t reflect.Type, prefix string, names *[]string) {
	for f := range t.Fields() {
		name := prefix + f.Tag.Get("toml")
		switch {
		case f.Type == reflect.TypeFor[[]Listener](), f.Type == reflect.TypeFor[[]Route](), f.Type == reflect.TypeFor[[]Milter](), f.Type == reflect.TypeFor[[]DNSBL]():
			collect(f.Type.Elem(), name+".", names)
		case f.Type.Kind() == reflect.Struct && f.Type.Field(0).Tag != "":
			collect(f.Type, name+".", names)
		default:
			*names = append(*names, name)
		}
	}
}

func TestCertificatesAreTablesOrWords(t *testing.T) {
	t.Parallel()
	want := []Certificate{{"b.pem", "b.key"}, {"c.pem", "c.key"}}
	for name, text := range map[string]string{
		"tables": "[[listener]]\ntls = \"optional\"\n[[listener.certificate]]\ncert = \"b.pem\"\nkey = \"b.key\"\n" +
			"[[listener.certificate]]\ncert = \"c.pem\"\nkey = \"c.key\"\n[[listener]]\nname = \"other\"\n",
		"inline": "[[listener]]\ntls = \"optional\"\ncertificate = [{ cert = \"b.pem\", key = \"b.key\" }, { cert = \"c.pem\", key = \"c.key\" }]\n",
		"words":  "[[listener]]\ntls = \"optional\"\ncertificate = [\"b.pem:b.key\", \"c.pem:c.key\"]\n",
	} {
		c := Default()
		c.Listeners = nil
		if err := parse(c, "x", []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if l := c.Listeners[0]; !slices.Equal(l.Certificates, want) {
			t.Errorf("%s: %+v", name, l)
		}
	}
	var c Certificate
	for _, bad := range []string{"", "a.pem", ":a.key", "a.pem:"} {
		if err := c.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken: %v", bad, c)
		}
	}
}

func TestTheKeysPointAtTheirOwnFields(t *testing.T) {
	t.Parallel()
	for _, k := range Keys() {
		c := Default()
		table, leaf, nested := strings.Cut(k.Name, ".")
		doc := k.Name + " = " + sample(k) + "\n"
		if nested {
			doc = "[" + table + "]\n" + leaf + " = " + sample(k) + "\n"
		}
		if k.in != nil {
			doc = "[[" + table + "]]\n" + leaf + " = " + sample(k) + "\n"
		}
		if err := parse(c, "x", []byte(doc)); err != nil {
			t.Errorf("%s: %v", k.Name, err)
			continue
		}
		if got := show(k.places(c)[0]); got != sample(k) {
			t.Errorf("%s: the table's accessor shows %s after a file set %s", k.Name, got, sample(k))
		}
	}
}

// sample is a value of the key, in TOML, that is not its default.
func sample(k Key) string {
	if k.Default == "" {
		return k.Example
	}
	switch k.Name {
	case "bare_newline":
		return `"reject"`
	case "listener.tls", "relay.tls":
		return `"implicit"`
	case "recipient_lookup.delimiters":
		return `"-"`
	case "listener.socket_mode":
		return `"0600"`
	case "listener.protocol":
		return `"lmtp"`
	case "listener.proxy":
		return `"required"`
	case "listener.tls_min":
		return `"1.0"`
	case "webhook.format":
		return `"raw"`
	case "delivery.accept":
		return `"hybrid"`
	case "mailauth.temperror":
		return `"tempfail"`
	case "log.format":
		return `"json"`
	case "log.level":
		return `"warn"`
	case "log.addresses":
		return `"hash"`
	case "rspamd.on_failure", "http_policy.on_failure":
		return `"reject"`
	case "delivery.to":
		return `"discard"`
	}
	switch p := k.places(Default())[0].(type) {
	case *bool:
		return show(new(!*p))
	case *Count:
		return "7"
	case *Size:
		return `"7KiB"`
	case *Duration:
		return `"7m"`
	case *[]Network:
		return `["192.0.2.0/24"]`
	case *HostPort, *Endpoint:
		return `"127.0.0.1:7"`
	}
	return `"seven"`
}

func TestThePrintedDefaultMeansTheDefault(t *testing.T) {
	t.Parallel()
	uncommented := regexp.MustCompile(`(?m)^#(\S)`).ReplaceAllString(Render(), "$1")
	if uncommented == Render() {
		t.Fatal("nothing was uncommented")
	}
	for name, text := range map[string]string{"as it is": Render(), "uncommented": uncommented} {
		path := filepath.Join(t.TempDir(), "incoming.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(Default(), got, sameConfig); d != "" {
			t.Errorf("%s: differs from the default:\n%s", name, d)
		}
	}
}

func TestEveryKeyCanBeSetByFlag(t *testing.T) {
	t.Parallel()
	for _, k := range Keys() {
		c := Default()
		if k.in != nil {
			listOf(k).one(c)
		}
		if err := c.Set(k.Name + "=" + sample(k)); err != nil {
			t.Errorf("%v", err)
			continue
		}
		if got := show(k.places(c)[0]); got != sample(k) {
			t.Errorf("--set %s=%s gives %s", k.Name, sample(k), got)
		}
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		arg, key, want string
	}{
		{"limits.message_size=10MiB", "limits.message_size", `"10MiB"`},
		{"limits.connections = none", "limits.connections", `"none"`},
		{"domains=example.org, example.net", "domains", `["example.org", "example.net"]`},
		{`domains=["example.org"]`, "domains", `["example.org"]`},
		{"domains=", "domains", `[]`},
		{"hostname='mx'", "hostname", `"mx"`},
		{`delivery.to="command:/bin/x \"a b\" c"`, "delivery.to", `"command:/bin/x \"a b\" c"`},
		{`delivery.to="command:/bin/\u0078"`, "delivery.to", `"command:/bin/x"`},
		{`delivery.to='command:/bin/x "\d"'`, "delivery.to", `"command:/bin/x \"\\d\""`},
		{`queue.path="a,b"`, "queue.path", `"a,b"`},
		{`domains="example.org", "example.net"`, "domains", `["example.org", "example.net"]`},
		{"listener.tls=optional", "listener.tls", `"optional"`},
		{"listener.127.0.0.1:2525.tls=optional", "listener.tls", `"optional"`},
		{"delivery.to=command:/bin/x 'a b' c", "delivery.to", `"command:/bin/x 'a b' c"`},
		{"timeouts.drain=-5s", "timeouts.drain", `"none"`},
	} {
		c := Default()
		if err := c.Set(tc.arg); err != nil {
			t.Errorf("%v", err)
			continue
		}
		if p, err := c.place(tc.key); err != nil || show(p) != tc.want {
			t.Errorf("--set %q: got %s, %v; want %s", tc.arg, show(p), err, tc.want)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	t.Parallel()
	two := Default()
	two.Listeners = append(two.Listeners, Listener{Name: "b"})
	for arg, want := range map[string]string{
		"limits.conections=5":   `--set limits.conections=5: unknown key limits.conections; did you mean limits.connections?`,
		"limits.connections":    `--set limits.connections: no value; write --set KEY=VALUE`,
		"limits.connections=x":  `--set limits.connections=x: "x" is no whole number; write 100, or "none"`,
		"listener.tls=optional": `--set listener.tls=optional: there are 2 listeners; write listener.NAME.tls`,
		"listener.c.tls=x":      `--set listener.c.tls=x: there is no listener c`,
		"route.plus=x":          `--set route.plus=x: there is no route; add a [[route]] to the file`,
		"queue.fsync=maybe":     `--set queue.fsync=maybe: "maybe" is neither true nor false`,
		`hostname="a\d"`:        `--set hostname="a\d": "a\d" is no string of TOML (invalid escape character U+0064 'd'); write it without the quotes, or what is within as TOML does`,
		"domains=[1":            `--set domains=[1: [1 is no list; write a,b or ["a", "b"]`,
	} {
		if err := two.Clone().Set(arg); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestWhatIsWrongWithAFileIsShownWithItsPlace(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/errors/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		_, err := Load(file, nil)
		if err == nil {
			t.Errorf("%s: accepted", file)
			continue
		}
		got := err.Error() + "\n"
		if fe, ok := err.(*FileError); ok {
			got += fe.Excerpt
		}
		golden := strings.TrimSuffix(file, ".toml") + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s (-want +got):\n%s", file, d)
		}
	}
}

func TestFlagsWinOverTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "c.toml")
	text := "hostname = \"file\"\n[limits]\nerrors = 3\ncommands = 0\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, func(c *Config) error { return c.Set("hostname=flag") })
	if err != nil {
		t.Fatal(err)
	}
	if c.Hostname.String() != "flag" || c.Limits.Errors.N != 3 || c.Limits.Commands.N != 1000 {
		t.Errorf("hostname %q, errors %v, commands %v", c.Hostname, c.Limits.Errors, c.Limits.Commands)
	}
}

func TestNoFileIsNamedInTheError(t *testing.T) {
	t.Parallel()
	_, err := Load(filepath.Join("testdata", "absent.toml"), nil)
	if want := "config testdata/absent.toml: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	sizes := map[string]int64{"0": 0, "10": 10, "1KiB": 1024, "50 MiB": 50 << 20, "10MB": 10e6, "10mib": 10 << 20, "none": -1, "-5": -1, "1_000": 1000}
	for in, want := range sizes {
		var z Size
		if err := z.UnmarshalText([]byte(in)); err != nil || z.N != want {
			t.Errorf("size %q: got %d, %v; want %d", in, z.N, err, want)
		}
	}
	for _, in := range []string{"", "MiB", "1.5MiB", "9999999TiB", "1 2", "10MM"} {
		var z Size
		if err := z.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("size %q: accepted as %d", in, z.N)
		}
	}
	for in, want := range map[time.Duration]string{time.Hour: "1h", 90 * time.Second: "1m30s", 5 * time.Minute: "5m", time.Second: "1s", -1: "none", 0: "0s", time.Hour + time.Second: "1h0m1s", 25 * time.Second: "25s"} {
		if got := (Duration{in}).String(); got != want {
			t.Errorf("duration %d: got %s, want %s", in, got, want)
		}
	}
}

func TestSplitArgs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"/bin/x":               {"/bin/x"},
		" /bin/x  -a\tb ":      {"/bin/x", "-a", "b"},
		`/bin/x 'a b' "c 'd'"`: {"/bin/x", "a b", "c 'd'"},
		`/bin/x ''`:            {"/bin/x", ""},
		`/bin/x $(id) |sh`:     {"/bin/x", "$(id)", "|sh"},
	} {
		if got, err := splitArgs(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestDiffSaysWhatChangedAndWhatWantsARestart(t *testing.T) {
	t.Parallel()
	a, b := Default(), Default()
	for _, s := range []string{"domains=example.org", "queue.path=/elsewhere", "limits.errors=5", "webhook.secrets=s3cret", "listener.tls=optional"} {
		if err := b.Set(s); err != nil {
			t.Fatal(err)
		}
	}
	want := []Change{
		{Key: "domains", Old: "[]", New: `["example.org"]`},
		{Key: "listener.tls", Old: `"disabled"`, New: `"optional"`, Restart: true},
		{Key: "limits.errors", Old: "10", New: "5"},
		{Key: "queue.path", Old: `"incoming-data/spool"`, New: `"/elsewhere"`, Restart: true},
		{Key: "webhook.secrets", Old: hidden, New: hidden},
	}
	if d := cmp.Diff(want, Diff(a, b)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	after := Reloaded(a, b)
	if after.Queue.Path != a.Queue.Path || after.Listeners[0].TLS.String() != "disabled" || after.Limits.Errors.N != 5 {
		t.Errorf("after a reload: %+v", after)
	}
	b.Listeners[0].Cert, b.Listeners[0].Key = "new.pem", "new.key"
	if l := Reloaded(b, b).Listeners[0]; l.Cert != "new.pem" {
		t.Errorf("a new certificate after a reload: %+v", l)
	}
	b.Listeners[0].Certificates, b.Listeners[0].SessionTickets = []Certificate{{"b.pem", "b.key"}}, true
	if l := Reloaded(b, b.Clone()).Listeners[0]; len(l.Certificates) != 1 || !l.SessionTickets {
		t.Errorf("further certificates after a reload: %+v", l)
	}
	if c := b.Clone(); &c.Listeners[0].Certificates[0] == &b.Listeners[0].Certificates[0] {
		t.Error("a clone shares its certificates")
	}
	b.Listeners[0].Certificates, b.Listeners[0].SessionTickets = nil, false
	if l := Reloaded(a, b).Listeners[0]; l.Cert != "" || l.TLS.String() != "disabled" {
		t.Errorf("a certificate for another TLS mode: %+v", l)
	}
	must(b.Set("listener.proxy=required"))
	must(b.Set("listener.proxy_networks=10.0.0.7"))
	if l := Reloaded(a, b).Listeners[0]; l.Proxy.String() != "required" || len(l.ProxyNetworks) != 1 {
		t.Errorf("a new balancer after a reload: %+v", l)
	}
	shared := b.Clone()
	shared.Listeners[0].ProxyNetworks[0] = Network{}
	if !b.Listeners[0].ProxyNetworks[0].IsValid() {
		t.Error("a clone shares a list of its listener")
	}
	b.Listeners[0] = Listener{Address: b.Listeners[0].Address, TLS: b.Listeners[0].TLS, SocketMode: a.Listeners[0].SocketMode, Protocol: a.Listeners[0].Protocol, Proxy: a.Listeners[0].Proxy, TLSMin: a.Listeners[0].TLSMin}
	b.Listeners = append(b.Listeners, Listener{Name: "other"})
	if l := Reloaded(a, b).Listeners; len(l) != 1 {
		t.Errorf("a reload added a listener: %+v", l)
	}
	if c := Diff(after, b); c[len(c)-1] != (Change{Key: "listener", Old: "127.0.0.1:2525", New: "127.0.0.1:2525, other", Restart: true}) {
		t.Errorf("a listener that came: %+v", c)
	}
	b.Listeners = b.Listeners[:1]
	if again := Diff(after, b); len(again) != 2 || !again[0].Restart || !again[1].Restart {
		t.Errorf("what wants a restart is not reported again: %+v", again)
	}
	if len(Diff(a, a.Clone())) != 0 {
		t.Error("a clone differs from its original")
	}
}

func TestURLsAreShownWithoutSecrets(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://app.example/mail":                    "https://app.example/mail",
		"https://u:secret@app.example/m?token=secret": "https://u:xxxxx@app.example/m?…",
	} {
		var to Target
		if err := to.UnmarshalText([]byte(in)); err != nil {
			t.Fatal(err)
		}
		if got := to.Redacted(); got != want || strings.Contains(got, "secret") {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestPolicyOrder(t *testing.T) {
	t.Parallel()
	c := Default()
	for _, s := range []string{"policies=require_hello,rate_limit", "max_size.size=1MiB", "access_list.file=x"} {
		if err := c.Set(s); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := c.PolicyOrder(), []string{"require_hello", "rate_limit", "access_list", "max_size"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAnyKeyOfMailauthAsksIt(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"mailauth.enforce=true", "mailauth.temperror=tempfail", "mailauth.authserv_id=a.example", "mailauth.forwarders=192.0.2.1",
		"mailauth.forwarder_domains=a.example", "mailauth.budget=5s", "mailauth.budget=none"} {
		c := Default()
		if err := c.Set(s); err != nil {
			t.Fatal(err)
		}
		if got := c.PolicyOrder(); !slices.Equal(got, []string{"mailauth"}) {
			t.Errorf("%s: got %v", s, got)
		}
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{"127.0.0.1:25": true, "127.9.9.9:25": true, "[::1]:25": true, "localhost:25": true, "[::ffff:127.0.0.1]:25": true,
		":25": false, "0.0.0.0:25": false, "[::]:25": false, "10.0.0.1:25": false, "mx.example.org:25": false} {
		if loopback(in) != want {
			t.Errorf("%s: got %v", in, !want)
		}
	}
}

// TestTheManualHoldsTheTable holds docs/configuration.md against the table.
func TestTheManualHoldsTheTable(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "..", "..", "docs", "configuration.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- keys: written by go test ./cmd/incoming/internal/config -update -->\n", "<!-- end of keys -->\n"
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost its marks", path)
	}
	want := head + begin + Markdown() + end + tail
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, string(text)); d != "" {
		t.Errorf("%s is not what the table says; run the test with -update:\n%s", path, d)
	}
}

func TestUnixSocketsAreListenedOn(t *testing.T) {
	t.Parallel()
	c := Default()
	must(c.Set("listener.address=unix:/run/mx.sock"))
	must(c.Set("listener.proxy=required")) // whoever may connect is believed
	if err := c.check(); err != nil || !c.Listeners[0].Unix() {
		t.Errorf("%+v: %v", c.Listeners, err)
	}
	for _, bad := range []string{"listener.address=unix:", "listener.address=systemd:", "listener.address=systemd:a:b", "listener.address=unix:/" + strings.Repeat("x", 107), "listener.socket_mode=0668", "listener.socket_mode=7", "listener.socket_mode=01777"} {
		if err := c.Set(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	must(c.Set("listener.address=unix:/" + strings.Repeat("x", 106)))
	if err := c.Set("http.address=unix:/run/http.sock"); err == nil {
		t.Error("http.address is a socket")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(Render()))
	f.Add([]byte("[limits]\nconnections = 1\n[[listener]]\naddress = ':25'\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := Default()
		if err := parse(c, "fuzz.toml", text); err == nil {
			c.fill()
			_ = c.check() // either is fine; a panic is not
		}
	})
}
