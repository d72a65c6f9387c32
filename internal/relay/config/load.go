package config

import (
	"fmt"
	"os"
)

// maxConfig bounds the size of a configuration file, in bytes.
const maxConfig = 4 << 20

// Load reads a configuration file (TOML). Unknown keys and wrong values are
// errors that name the file, the line and the key.
func Load(file string) (*Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("sslrelay: configuration: %w", err)
	}
	defer f.Close()
	data, err := readLimited(f, minRead, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("sslrelay: configuration %s: %w", file, err)
	}
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("sslrelay: configuration %s: %w", file, err)
	}
	return c, nil
}

// Parse reads the content of a configuration file.
func Parse(data []byte) (*Config, error) {
	c := new(Config)
	f, err := decodeTOML(TrimMark(data), c)
	if err != nil {
		return nil, err
	}
	c.setDefaults()
	if err := c.validate(); err != nil {
		f.addInvalid(err)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return c, nil
}
