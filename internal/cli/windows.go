package cli

import (
	"errors"
	"strconv"
)

func (p *parser) setWindowsSize(v string) error {
	_, err := parseSize(v)
	p.cannot("")
	return err
}

func checkedInt(bits int) setter {
	return refused(func(v string) error {
		if _, err := strconv.ParseInt(v, 0, bits); err != nil {
			return errors.New("it takes a number")
		}
		return nil
	})
}

func checkedUint(bits int) setter {
	return refused(func(v string) error {
		if _, err := strconv.ParseUint(v, 0, bits); err != nil {
			return errors.New("it takes a number from 0")
		}
		return nil
	})
}
