package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/dovetail-go/dovetail/driver"
)

// maxUses bounds the file of a service's uses, in bytes.
const maxUses = 16 << 20

// printRights prints the rights that a service needs, whose uses are in a file.
func (a *app) printRights(conn driver.Conn, file, user string) error {
	g, err := ability[driver.Granter](conn, "say which rights a service needs")
	if err != nil {
		return err
	}
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	var uses []driver.Use
	if err := json.NewDecoder(io.LimitReader(in, maxUses)).Decode(&uses); err != nil {
		return fmt.Errorf("read the uses of a service from %s: %w: give what json.NewEncoder(os.Stdout).Encode(svc.Uses()) writes", file, err)
	}
	grants, err := g.Grants(uses)
	if err != nil {
		return err
	}
	_, err = io.WriteString(a.out, g.GrantText(user, grants))
	return err
}
