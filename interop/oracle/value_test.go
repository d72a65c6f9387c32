package main

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

func parsed(t *testing.T, text string) any {
	var v any
	require.NoError(t, decode([]byte(text), &v))
	return v
}

func TestTruthOfPerl(t *testing.T) {
	for text, want := range map[string]bool{
		`null`: false, `0`: false, `""`: false, `"0"`: false, `false`: false, `0.0`: false,
		`1`: true, `-1`: true, `"0.0"`: true, `"00"`: true, `" "`: true, `true`: true, `[]`: true, `{}`: true,
	} {
		require.Equal(t, want, truth(parsed(t, text)), text)
	}
}

func TestPayload(t *testing.T) {
	block := func(s string) string { b := sha256.Sum256([]byte(s)); return string(b[:]) }
	for text, want := range map[string]string{
		`"h\u00e9"`:                 "h\xc3\xa9",
		`0`:                         "0",
		`{"hex":"00fF"}`:            "\x00\xff",
		`{"hex":"abc"}`:             "\xab\xc0",
		`{"len":40}`:                (block("0:0") + block("0:1"))[:40],
		`{"len":"40","seed":"x"}`:   (block("x:0") + block("x:1"))[:40],
		`{"len":3,"seed":7}`:        block("7:0")[:3],
		`{"len":0,"seed":7}`:        "",
		`{"text":"ab","times":3}`:   "ababab",
		`{"text":"ab"}`:             "ab",
		`{"text":"ab","times":0}`:   "",
		`{"wide":"\u20ac"}`:         "\xe2\x82\xac",
		`{"text":"ab","times":"2"}`: "abab",
	} {
		got, err := payload(parsed(t, text))
		require.NoError(t, err, text)
		require.NotNil(t, got, text)
		require.Equal(t, want, string(got), text)
	}
	got, err := payload(nil)
	require.NoError(t, err)
	require.Nil(t, got)
	for _, text := range []string{`[]`, `{}`, `{"hex":"xy"}`, `{"len":-1}`, `{"len":"many"}`, `{"text":[]}`} {
		_, err := payload(parsed(t, text))
		require.Error(t, err, text)
	}
}

func TestOptions(t *testing.T) {
	var perl map[string]any
	require.NoError(t, decode([]byte(`{
		"client": "1", "crt": "@server.crt", "key": "", "keymem": "<garbage.pem", "cacrt": "@none.pem", "cacrl": "@",
		"cacrtmem": ["a", "<garbage.pem"], "caverifydepth": "3", "clientcert": 0, "sni": "0", "tls1_2": 1, "tls": null,
		"ignoreVerifyErrors": [10, "20"], "debug": 1, "errorhandler": {}
	}`), &perl))
	o, err := PKI(pkiDir).Options(perl)
	require.NoError(t, err)
	require.NotNil(t, o.Debug)
	o.Debug = nil
	garbage := []byte("this is not a PEM file\n")
	require.Equal(t, sslfilter.Options{
		Client: true, InsecureSkipVerify: true, TLS12: true, CAVerifyDepth: 3,
		Crt: pkiDir + "/server.crt", KeyMem: garbage, CACrt: pkiDir + "/none.pem", CACRL: pkiDir + "/",
		CACrtMem: [][]byte{[]byte("a"), garbage}, IgnoreVerifyErrors: []sslfilter.VerifyCode{10, 20},
	}, o)
}

func TestOptionsThatNewRefuses(t *testing.T) {
	for _, text := range []string{
		`{"nosuch": 1}`, `{"Client": 1}`, `{"nosuch": null}`,
		`{"ignoreVerifyErrors": 10}`, `{"ignoreVerifyErrors": {"10": 1}}`, `{"ignoreVerifyErrors": ["expired"]}`, `{"ignoreVerifyErrors": [null]}`,
		`{"caverifydepth": "deep"}`, `{"crt": ["a"]}`, `{"crtmem": ["a"]}`, `{"sni": {}}`,
	} {
		t.Run(text, func(t *testing.T) {
			c := parseCase([]byte(`{"name":"x","scenario":{"server":{"new":` + text + `},` + client + `}}`))
			r := Run(c, pkiDir)
			require.Empty(t, r.Unsupported)
			require.True(t, r.Server.NewError)
			require.NotEmpty(t, r.Server.Text)
			require.False(t, r.Client.NewError)
		})
	}
}

// A false scalar counts as not given, whatever its purpose is. A missing file of the
// PKI that the case file itself needs is not an error of the library.
func TestErrorsThatNewDoesNotReport(t *testing.T) {
	c := parseCase([]byte(`{"name":"x","scenario":{` + client + `,"server":{"new":{"crt":"@server.crt","key":"@server.key","ignoreVerifyErrors":0}}}}`))
	require.False(t, Run(c, pkiDir).Server.NewError)
	c = parseCase([]byte(`{"name":"x","scenario":{` + client + `,"server":{"new":{"crtmem":"<none"}}}}`))
	require.Contains(t, Run(c, pkiDir).Unsupported, "PKI")
}

func TestUnknownKeysAreUnsupported(t *testing.T) {
	for _, scenario := range []string{
		`"manual":1,` + server, `"sides":{},` + server, `"server":{"class":"My::SSL"}`, `"server":{"kind":"raw"}`, `"server":[]`,
		`"server":{"kind":"stack"},` + client, `"server":{"kind":"stack","stack":[]},` + client, `"server":{"kind":"stack","stack":["HTTPD","SSL"]},` + client,
		server + "," + client + `,"messages":[{"from":"server","data":[{"http_response":"x"}]}]`, `"server":{"kind":"stack","stack":["SSL","Line"],"new":{"crt":"@server.crt","key":"@server.key"}},` + client + `,"messages":[{"from":"server","data":[{"http_response":"x"}]}]`,
		server + `,"messages":[{"from":"third","data":[]}]`, server + `,"messages":[{"from":"server","data":"x"}]`,
		server + `,"early":[{"from":"server","data":[{"nosuch":1}]}]`, server + `,"crls":"@crl.pem"`, server + `,"chunk":"x"`,
	} {
		c := parseCase([]byte(caseLine("x", scenario, ``)))
		require.NotEmpty(t, Run(c, pkiDir).Unsupported, scenario)
	}
}

// The oracle joins pieces to fill a delivery, and keeps the rest for the next delivery.
func TestTakeCutsAcrossPieces(t *testing.T) {
	s := &side{queue: [][]byte{[]byte("abc"), []byte("de"), []byte("fghij")}}
	var got []string
	for len(s.queue) > 0 {
		got = append(got, string(s.take(4)))
	}
	require.Equal(t, []string{"abcd", "efgh", "ij"}, got)
}

func TestKick(t *testing.T) {
	for _, test := range []struct {
		more string
		done bool
	}{
		{``, true},
		{`,"kick":1`, true},
		{`,"kick":0`, false},
		{`,"kick":0,"messages":[{"from":"server","data":["x"]}]`, false},
		{`,"kick":0,"messages":[{"from":"client","data":["x"]}]`, true},
		{`,"kick":0,"early":[{"from":"client","data":[null]}]`, true},
		{`,"chunk":1`, true},
	} {
		c := parseCase([]byte(caseLine("x", server+","+client+test.more, ``)))
		r := Run(c, pkiDir)
		require.Equal(t, test.done, r.Server.Done, test.more)
		require.Equal(t, test.done, r.Client.Done, test.more)
		if strings.Contains(test.more, "kick\":0") && !test.done {
			require.Equal(t, "(NONE)", r.Client.Cipher)
			require.Nil(t, r.Client.Valid)
			_, err := json.Marshal(r)
			require.NoError(t, err)
		}
	}
}
