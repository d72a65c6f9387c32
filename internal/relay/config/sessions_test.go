package config

import (
	"flag"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const oneRelay = "[[relay]]\nlisten = [\":0\"]\nbackend = \"h:1\"\n"

// The options of the [sessions] table come from the file and from flags.
func TestSessions(t *testing.T) {
	want := Sessions{Redis: "redis://h", RedisPassword: "env:P", RedisCACrt: "ca.crt", SecretFile: "secret", Epoch: Duration(2 * time.Hour), Stateful: true}
	c, err := Parse([]byte("[sessions]\nredis = \"redis://h\"\nredis-password = \"env:P\"\nredis-cacrt = \"ca.crt\"\nsecret-file = \"secret\"\nepoch = \"2h\"\nstateful = true\n" + oneRelay))
	require.NoError(t, err)
	require.Equal(t, want, c.Sessions)

	c = new(Config)
	fs := flag.NewFlagSet("sslrelay", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	Flags(fs, c)
	require.NoError(t, fs.Parse([]string{"-listen", ":0", "-backend", "h:1", "-sessions-redis", "redis://h", "-sessions-redis-password", "env:P",
		"-sessions-redis-cacrt", "ca.crt", "-sessions-secret-file", "secret", "-sessions-epoch", "2h", "-sessions-stateful"}))
	require.NoError(t, c.Finish())
	require.Equal(t, want, c.Sessions)

	c, err = Parse([]byte(oneRelay))
	require.NoError(t, err)
	require.Equal(t, Sessions{Epoch: Duration(time.Hour)}, c.Sessions)
}

// An error names the key and the line, and a change needs a restart.
func TestSessionsErrors(t *testing.T) {
	for text, want := range map[string]string{
		"sessions = 1\n":                       "line 1: sessions: want a table that begins with [sessions]",
		"[[sessions]]\n":                       "line 1: sessions: want a table that begins with [sessions]",
		"[sessions]\nredi = 1\n":               `line 2: unknown key "sessions.redi"`,
		"[sessions]\nredis = 1\n":              "line 2: sessions.redis: want a string",
		"\"sessions.redis\" = \"redis://h\"\n": `line 1: unknown key "sessions.redis"`,
		"[sessions]\nsecret-file = \"x\"\n":    "line 2: sessions.secret-file: needs sessions.redis",
		"[sessions]\nstateful = true\n":        "line 2: sessions.stateful: needs sessions.redis",
		"[sessions]\nredis = \"redis://h\"\n":  "line 1: sessions.secret-file: is missing; sessions.redis needs it",
		"[sessions]\nredis = \"redis://h\"\nsecret-file = \"x\"\nticket-keys = \"k\"\n":          "line 4: sessions.ticket-keys: cannot be combined with sessions.redis",
		"[sessions]\n\nepoch = \"59m\"\n":                                                        "line 3: sessions.epoch: want 1h to 24h, got 59m",
		"[sessions]\nredis = \"redis://h\"\nsecret-file = \"x\"\nredis-password = \"hunter2\"\n": "line 4: sessions.redis-password: want file:path, env:NAME or credential:name",
	} {
		_, err := Parse([]byte(text + oneRelay))
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "hunter2")
	}
	with, err := Parse([]byte("[sessions]\nredis = \"redis://h\"\nsecret-file = \"x\"\n" + oneRelay))
	require.NoError(t, err)
	without, err := Parse([]byte(oneRelay))
	require.NoError(t, err)
	require.Equal(t, "sessions.redis, sessions.secret-file", NeedsRestart(without, with))
}
