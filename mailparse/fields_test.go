package mailparse

import (
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEncodedWordsAreDecoded(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                                "plain",
		"=?utf-8?Q?a=C3=A9_b?=":                "aé b",
		"=?UTF-8?B?w6k=?=":                     "é",
		"=?utf-8*fr?q?=C3=A9?=":                "é", // RFC 2231 §5
		"=?utf-8?Q?=C3?= =?utf-8?Q?=A9?=":      "é", // cut in two
		"=?utf-8?Q?a?=  =?iso-8859-1?Q?=E9?=":  "aé",
		"=?utf-8?Q?a?= b =?utf-8?Q?c?=":        "a b c",
		"a=?utf-8?Q?b?=c":                      "abc",
		"=?utf-8?Q?a b?=":                      "a b",
		"=?utf-8?Q?a?=\t=?utf-8?X?b?=":         "a =?utf-8?X?b?=",
		"=?utf-8?Q?open":                       "=?utf-8?Q?open",
		"=?x-none?Q?=E9?=":                     "é",
		"=?utf-8?Q?=E9?=":                      "\ufffd",
		"=?utf-8?Q?a=0D=0ABcc:_x=00?=":         "a  Bcc: x",
		"=?gb2312?B?1tDOxA==?=":                "中文",
		"caf\xe9":                              "café",
		"café":                                 "café",
		"a=b =c?= d":                           "a=b =c?= d",
		"=?utf-8?Q?=?= =??= =?utf-8?Q?=41=ZZ?": "= =??= =?utf-8?Q?=41=ZZ?",
	} {
		if got := Decode(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestAddressesAreReadHoweverTheyAreWritten(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]mail.Address{
		"":                             nil,
		"a@b":                          {{Address: "a@b"}},
		" <a@b> ":                      {{Address: "a@b"}},
		"A B <a@b>, c@d":               {{Name: "A B", Address: "a@b"}, {Address: "c@d"}},
		`"B, A" <a@b>`:                 {{Name: "B, A", Address: "a@b"}},
		`"a \"q\" b" <a@b>`:            {{Name: `a "q" b`, Address: "a@b"}},
		"a@b (A (of B))":               {{Name: "A (of B)", Address: "a@b"}},
		"g: a@b, c@d;, e@f":            {{Address: "a@b"}, {Address: "c@d"}, {Address: "e@f"}},
		"undisclosed-recipients:;":     nil,
		"<@x,@y:a@b>":                  {{Address: "a@b"}},
		`"a b"@c`:                      {{Address: `"a b"@c`}},
		"A a@b":                        {{Name: "A", Address: "a@b"}},
		"a@b <a@b>":                    {{Name: "a@b", Address: "a@b"}},
		"MAILER-DAEMON":                {{Address: "MAILER-DAEMON"}},
		"A B":                          {{Name: "A B"}},
		"=?utf-8?Q?D=C3=A9,_J?= <a@b>": {{Name: "Dé, J", Address: "a@b"}},
		`"=?utf-8?Q?D=C3=A9?=" <a@b>`:  {{Name: "Dé", Address: "a@b"}},
		"A <a@b":                       {{Name: "A", Address: "a@b"}},
		"((( <a@b>":                    {{Address: "a@b"}},
		`"A <a@b>`:                     {{Name: "A", Address: "a@b"}},
		"A <a@b>; C <c@d>":             {{Name: "A", Address: "a@b"}, {Name: "C", Address: "c@d"}},
		"jörg@müller.example":          {{Address: "jörg@müller.example"}},
	} {
		if got := Addresses(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if n := len(Addresses(strings.Repeat("a,", MaxAddresses+1))); n != MaxAddresses {
		t.Errorf("%d addresses", n)
	}
}

func TestThePlusPartIsWhatFollowsTheFirstPlus(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][2]string{
		"a@b":       {"a@b", ""},
		"a+b@c":     {"a@c", "b"},
		"a+b+c@d":   {"a@d", "b+c"},
		"a+@b":      {"a@b", ""},
		`"a b+c"@d`: {`"a b"@d`, "c"},
		"a@b+c":     {"a@b+c", ""},
		"a+b":       {"a", "b"},
		"":          {"", ""},
		"a+b@c@d":   {"a@d", "b@c"},
		"+a@b":      {"@b", "a"},
	} {
		if base, plus := SplitPlus(in); base != want[0] || plus != want[1] {
			t.Errorf("%q: %q, %q, want %q", in, base, plus, want)
		}
	}
}

func TestParametersAreReadHoweverTheyAreWritten(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`attachment; filename=a.txt`:                                              "a.txt",
		`attachment; filename="a b.txt"; size=1`:                                  "a b.txt",
		`attachment; FileName = a b.txt ; x=y`:                                    "a b.txt",
		`attachment; filename="a;b=\"c\".txt"`:                                    `a;b="c".txt`,
		`attachment; filename*=utf-8''%c3%a9.txt`:                                 "é.txt",
		`attachment; filename=x; filename*=iso-8859-1'fr'%e9.txt`:                 "é.txt",
		`attachment; filename*1="b.txt"; filename*0="a"`:                          "ab.txt",
		`attachment; filename*0*=utf-8''%c3; filename*1*=%a9; filename*2=".t%20"`: "é.t%20",
		`attachment; filename*1=b`:                                                "",
		`attachment; filename="=?utf-8?B?w6kudHh0?="`:                             "é.txt",
		"attachment; filename=caf\xe9.txt":                                        "café.txt",
		`attachment; filename="C:\dir\a.txt"`:                                     "a.txt",
		`attachment; filename="../../a"`:                                          "a",
		`attachment; filename=".."`:                                               "",
		`attachment; filename="a/"`:                                               "a",
		`attachment; filename="open`:                                              "open",
		`attachment; filename=a; filename=b`:                                      "a",
		`attachment; filename`:                                                    "",
		`attachment; filename*=%zz`:                                               "%zz",
		`attachment;;;filename=a`:                                                 "a",
		`attachment; filename*99999999999999999999=a`:                             "",
	} {
		_, ps := parseParams(in)
		if got := fileName(ps.text("filename")); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestDatesAreReadAsProgramsWriteThem(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 1, 6, 10, 20, 30, 0, time.UTC)
	for _, in := range []string{
		"Tue, 6 Jan 2026 11:20:30 +0100", "6 Jan 2026 10:20:30 GMT", "Tue, 06 Jan 2026 10:20:30 +0000 (UTC)", "Tue, 6 Jan 26 10:20:30 +0000",
		"Tue,  6 Jan 2026 10:20:30 -0000", "Tue Jan 6 10:20:30 2026", "2026-01-06T10:20:30Z", "2026-01-06 10:20:30", "Tue, 6 Jan 2026 10:20:30",
		"Tue, 6 Jan 2026 05:20:30 EST", "Tue, 6 January 2026 10:20:30 +0000",
	} {
		if got, ok := parseDate(in); !ok || !got.Equal(want) {
			t.Errorf("%q: %v", in, got)
		}
	}
	if got, ok := parseDate("yesterday"); ok || !got.IsZero() {
		t.Errorf("yesterday: %v", got)
	}
}

func TestTransferEncodingsAreTakenOffInAnyPieces(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ encoding, in, want string }{
		{"base64", "QUJD", "ABC"}, {"base64", "QUI=", "AB"}, {"base64", "QUI", "AB"}, {"base64", "QQ==QUJD", "AABC"}, {"base64", "Q!U\r\n J*D", "ABC"},
		{"base64", "Q", ""}, {"base64", "", ""},
		{"quoted-printable", "a=3Db", "a=b"}, {"quoted-printable", "a=\r\nb", "ab"}, {"quoted-printable", "a= \t\nb", "ab"}, {"quoted-printable", "a  \r\nb ", "a\r\nb"},
		{"quoted-printable", "a=zz=4", "a=zz=4"}, {"quoted-printable", "a=", "a"}, {"quoted-printable", "a= b", "a= b"}, {"quoted-printable", "=e9=C3", "\xe9\xc3"},
		{"quoted-printable", "==41=\rb", "=Ab"}, {"quoted-printable", "\xe9\x00", "\xe9\x00"}, {"quoted-printable", "a=\r", "a"},
		{"x-other", "=41", "=41"},
	} {
		whole := newDecoder(c.encoding)
		got := whole.flush(whole.decode(nil, []byte(c.in)))
		bytewise := newDecoder(c.encoding)
		var pieces []byte
		for i := range len(c.in) {
			pieces = bytewise.decode(pieces, []byte{c.in[i]})
		}
		if pieces = bytewise.flush(pieces); string(got) != c.want || string(pieces) != c.want {
			t.Errorf("%s %q: %q, octet by octet %q, want %q", c.encoding, c.in, got, pieces, c.want)
		}
	}
}

func TestCharsetsAreDecoded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ charset, in, want string }{
		{"", "caf\xc3\xa9", "café"}, {"us-ascii", "caf\xe9", "café"}, {"iso-8859-1", "\x80", "€"}, {`"UTF-8"`, "\xef\xbb\xbfé", "é"},
		{"koi8-r", "\xf4\xe5\xf3\xf4", "ТЕСТ"}, {"shift_jis", "\x82\xa0", "あ"}, {"big5", "\xa4\xa4", "中"}, {"euc-kr", "\xb0\xa1", "가"}, {"gbk", "\xd6\xd0", "中"},
		{"utf-16", "\xfe\xff\x00a", "a"}, {"windows-1251", "\xc0", "А"}, {"x-none", "a", "a"}, {"iso-8859-15", "\xa4", "€"},
	} {
		if got, _ := toUTF8([]byte(c.in), c.charset); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.charset, c.in, got, c.want)
		}
	}
}
