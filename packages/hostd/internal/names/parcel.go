package names

import "path/filepath"

// Parcels are images on their way to or from elsewhere, as files that the node-agent may read and write.
func (p Paths) Parcels() string       { return filepath.Join(p.PoolDir, "x") }
func (p Paths) Parcel(i Image) string { return filepath.Join(p.Parcels(), string(i)) }
