# Runs inside the new root, after Debian's packages and Node are in it, with the network out of reach.
# It makes the root what an agent expects of a machine; template.json says what it is called and how it starts.
set -eu

# Node arrives as an npm package; put it where Node's own archives put it, headers for node-gyp included.
shipped=$(echo /usr/local/lib/node_modules/node-linux-*)
rm -f /usr/local/bin/node
mv "$shipped/bin/node" /usr/local/bin/node
mkdir -p /usr/local/include
mv "$shipped/include/node" /usr/local/include/node
rm -rf "$shipped"
# An npm that installs an npm hands its built-in settings on; the host's would send ours to other files.
rm -f /usr/local/lib/node_modules/npm/npmrc

ln -sf python3 /usr/bin/python
# The whole sandbox is one user's throw-away machine: "pip install" is not to ask for a virtual environment (PEP 668).
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
printf '[global]\nroot-user-action = ignore\ndisable-pip-version-check = true\n' >/etc/pip.conf
mkdir -p /usr/local/etc
printf 'fund=false\nupdate-notifier=false\n' >/usr/local/etc/npmrc

useradd --create-home --uid 1000 --user-group --shell /bin/bash user
echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/user
chmod 0440 /etc/sudoers.d/user

# Work happens in /blaxel, which is root's home as well; both accounts may write there.
mkdir -p /blaxel
cp /root/.bashrc /root/.profile /blaxel/
sed -i 's|^root:\(.*\):/root:|root:\1:/blaxel:|' /etc/passwd
chown user:user /blaxel
chmod 0777 /blaxel

# The root proves itself before it is published.
for program in bash curl git jq wget sudo ip ps python pip node npm npx tsc tsx; do
  command -v "$program" >/dev/null || { echo "the template lacks $program" >&2; exit 1; }
done
node -e 'if (Number(process.versions.node.split(".")[0]) < 22) throw new Error(process.version)'
npm --version
pip --version
python -c 'import ssl, sqlite3, venv'
tsx --version
su user -c 'sudo -n true'

# What only the build needed, and what every machine must have as its own.
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /etc/apt/apt.conf.d/99mmdebstrap /etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/info/* /root/.npm /blaxel/.npm
find /tmp /var/tmp -mindepth 1 -delete
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /torpor
: >/etc/machine-id
: >/etc/resolv.conf
: >/etc/hostname
