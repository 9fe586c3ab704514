#include "tools/help_topics.h"

#include <stddef.h>

const struct help_topic help_topics[] = {
	{"consultant", "work", "open a client's share and work in it",
		"What you may open, and for which purpose:\n"
		"    coffer shares\n"
		"Mount it at an empty directory of yours, and work with any program:\n"
		"    mkdir -p ~/acme\n"
		"    coffer mount acme --purpose data-migration --ticket CHG-1042 ~/acme\n"
		"When you are done (what is still open there keeps it; --lazy does not wait):\n"
		"    coffer unmount ~/acme\n"
		"Each file that you open is recorded with your name, the purpose and the ticket.\n"},
	{"consultant", "import", "bring data of others into a share, so that the record says who gave it",
		"    coffer import ~/delivery.csv ~/acme/inbox --source \"Partner Ltd, order 7\"\n"
		"What is there already:\n"
		"    coffer source ~/acme/inbox \"the client himself, by mail\"\n"
		"Where data came from:\n"
		"    coffer log --client acme --op source\n"},
	{"consultant", "inside", "work without leaving copies elsewhere",
		"A shell, or one program, with a mount and temporary files of its own in the share; all of it is gone at the end:\n"
		"    coffer shell acme --purpose data-migration --ticket CHG-1042\n"
		"    coffer shell acme --purpose data-migration -- git status\n"
		"Where the policy says export: no of a purpose, nothing else opens it, and programs write only in the share.\n"
		"Which purposes those are:\n"
		"    coffer policy show\n"},
	{"consultant", "person", "say whom files are about, and give a person a copy",
		"In your mount; what is in a labelled directory counts, and takes the label along when it leaves:\n"
		"    coffer subject label ~/acme/hr/doe P-4711\n"
		"    coffer subject list ~/acme/hr/doe/cv.pdf\n"
		"Write the same text each time. When that person asks what there is, and for a copy of it:\n"
		"    coffer subject find acme P-4711\n"
		"    coffer subject export acme P-4711 --to ./for-doe\n"
		"What is about others as well is named and left out. A copy of a file is a new file: label it, too.\n"},
	{"consultant", "refused", "find out why a mount or a file is refused",
		"The whole decision, step by step, with the sentences of the policy behind it:\n"
		"    coffer why $USER acme --purpose data-migration\n"
		"What you have open, and what ended:\n"
		"    coffer sessions\n"
		"In a mount: EKEYREVOKED means that the permission was taken back, EKEYEXPIRED that its time is up.\n"},
	{"consultant", "approval", "get what a second person must approve, or help in an emergency",
		"    coffer request acme --purpose legal-process --reason \"order 7/26\"\n"
		"    coffer requests\n"
		"When it is approved, mount as usual. If you are in the group that the policy names, and there is no time:\n"
		"    coffer mount acme --purpose support --emergency --reason \"the server is down\" ~/acme\n"
		"Others are told at once, and look at it afterwards.\n"},
	{"consultant", "broken", "get rid of a mount that does not answer",
		"Ask whether the daemons run, then let go of the mount, whatever uses it:\n"
		"    coffer status\n"
		"    coffer unmount --lazy ~/acme\n"
		"    fusermount3 -uz ~/acme\n"
		"Nothing that a program has fsynced is lost. Then mount it again.\n"},
	{"admin", "client", "take on a client, and let people in",
		"    coffer client add acme --name \"Acme Corp\" --email privacy@acme.example\n"
		"    coffer policy show\n"
		"    coffer grant acme alice --purpose data-migration --rights rw --until 2030-01-01\n"
		"    coffer access acme\n"
		"To all in a group of the host, and to many at once (coffer help policy):\n"
		"    coffer grant acme support-team --group --purpose support --rights r\n"
		"To find one among many:\n"
		"    coffer client list corp\n"
		"Nobody grants to himself: ask another admin.\n"},
	{"admin", "consent", "record what a client consented to, engaged you for, or agreed otherwise",
		"Purposes that rest on consent are open only while there is one; the document's hash is recorded:\n"
		"    coffer consent give acme --scope offers-and-events --evidence consent.pdf\n"
		"    coffer consent give acme --scope sharing --recipient \"Partner Ltd\" --reason \"joint webinar\" --evidence consent.pdf\n"
		"    coffer consent withdraw acme 1\n"
		"What the client has engaged you for (all, unless you said otherwise), and his contract against the policy:\n"
		"    coffer engagement list acme\n"
		"    coffer agreement diff acme agreement.yaml\n"
		"    coffer agreement set acme agreement.yaml\n"
		"What rests on something that is withdrawn ends within a second, and nothing else.\n"},
	{"admin", "approve", "decide about requests, and look at emergencies",
		"    coffer requests\n"
		"    coffer approve 3\n"
		"    coffer deny 4 --note \"no order number\"\n"
		"Who was in a client's share without a grant, and why, or changed rules by which he may do more; somebody else than he closes it:\n"
		"    coffer reviews\n"
		"    coffer reviews close 1 --note \"the disk was failing\"\n"},
	{"admin", "policy", "change the policy, and grant to many",
		"    coffer policy check policy.yaml\n"
		"    coffer policy diff policy.yaml\n"
		"    coffer policy apply policy.yaml\n"
		"Grants as CSV, all of them or none:\n"
		"    coffer grants export\n"
		"    coffer grants import grants.csv --dry-run\n"},
	{"admin", "withdraw", "take permission back, at once",
		"    coffer revoke acme alice\n"
		"Who leaves: first nothing opens for him, then his grants of all clients go; it names the groups that let him in:\n"
		"    coffer suspend --user alice --reason \"leaves on 31 May\"\n"
		"    coffer revoke --user alice\n"
		"    coffer access --user alice\n"
		"All use of a client, for as long as a suspicion lasts:\n"
		"    coffer suspend acme --reason \"phishing, incident 7\"\n"
		"    coffer resume acme --reason \"cleared\"\n"
		"Open and mapped files end within a second.\n"},
	{"admin", "end", "end the relationship with a client",
		"Retention counts from that day; when the last period is over, the keys are destroyed:\n"
		"    coffer client end acme --on 2026-12-31\n"
		"    coffer retention forecast acme\n"
		"    coffer expiry list acme\n"},
	{"admin", "damage", "look for damage, and mend it",
		"    coffer fsck acme\n"
		"    coffer fsck acme --repair\n"
		"A file that is damaged, from the newest backup, beside it:\n"
		"    coffer restore /mnt/backup acme reports/2025.ods\n"},
	{"owner", "backup", "make backups that undo no destruction",
		"All but the slot, while sessions run, incrementally:\n"
		"    coffer backup /mnt/backup\n"
		"    coffer backup check /mnt/backup\n"
		"    coffer drill /mnt/backup\n"
		"Never copy the slot with it (`coffer status` says where it is).\n"
		"A file or tree of then comes back beside what is there; a whole installation into a new directory, with the slot:\n"
		"    coffer restore /mnt/backup acme reports/2025\n"
		"    coffer restore /mnt/backup --all --to /srv/coffer-new --slot /media/stick/coffer\n"
		"After an exchange of keys (coffer rotate) older backups do not open: make a new one.\n"},
	{"owner", "install", "see that an installation is as it should be",
		"    coffer up\n"
		"    coffer status\n"
		"    coffer doctor\n"
		"After a reboot: coffer up again (coffer.service of the package does it); everybody mounts anew, nothing else is to do.\n"
		"For a new version: end what runs, exchange the programs, start again; the state stays:\n"
		"    coffer sessions\n"
		"    coffer down\n"
		"    coffer up\n"},
	{"custodian", "hold", "keep data from destruction",
		"    coffer hold place acme --matter \"case 17\" --reason \"litigation\"\n"
		"    coffer hold list acme\n"
		"    coffer hold lift 3 --reason \"settled\"\n"},
	{"custodian", "erase", "destroy one file or tree for good",
		"Says first what goes, then asks:\n"
		"    coffer shred acme /orders/doe.pdf --reason \"erasure request 12\"\n"
		"All that is labelled as about a person, and about nobody else:\n"
		"    coffer subject find acme P-4711\n"
		"    coffer subject shred acme P-4711 --reason \"erasure request 13\"\n"
		"Where roles are separate that only asks; another custodian gives the same command with --confirm.\n"
		"    coffer certificate list\n"},
	{"custodian", "destroy", "watch over, hasten or stop a destruction",
		"    coffer expiry list\n"
		"    coffer expiry cancel acme --reason \"still needed for the audit\"\n"
		"    coffer expiry schedule acme --on 2027-01-15 --reason \"the client asks for it\"\n"
		"Another custodian then says:\n"
		"    coffer expiry confirm acme\n"},
	{"custodian", "seal", "forget all keys, and open them again",
		"    coffer seal\n"
		"    coffer unseal\n"
		"After a jump of the clock nothing is destroyed until:\n"
		"    coffer clock confirm\n"},
	{"custodian", "recovery", "be able to open when every slot is lost",
		"On another machine; the line that it prints goes to the custodian:\n"
		"    coffer recovery keygen ada.key --passphrase\n"
		"On the host, with a file on a medium that is kept apart:\n"
		"    coffer recovery add coffer-recovery1... --name ada --to /media/safe/coffer.copy\n"
		"    coffer recovery check\n"
		"When every slot is lost, as owner of the state directory:\n"
		"    coffer down\n"
		"    coffer recovery open --key ada.key --copy /media/safe/coffer.copy\n"
		"A whole machine: coffer restore /mnt/backup --all --to DIR --recovery-key ada.key --recovery-copy PATH\n"},
	{"custodian", "rotate", "exchange keys that may have got into other hands",
		"A slot, its passphrase or a recovery key:\n"
		"    coffer rotate root\n"
		"What signs certificates and the record:\n"
		"    coffer rotate signing\n"
		"Each says what it changes and what not; make a new backup after it.\n"},
	{"custodian", "transfer", "hand a client over to another installation",
		"There: coffer transfer-key. Here, as the owner of the state directory (he reads the ciphertext), with the key that it prints:\n"
		"    coffer suspend acme --reason \"handed over\"\n"
		"    coffer transfer acme --to KEY --out /mnt/disk/acme\n"
		"When the successor has it (there: coffer adopt), ours is destroyed:\n"
		"    coffer transfer acme --finish\n"
		"and, where roles are separate, by another custodian:\n"
		"    coffer transfer acme --confirm\n"},
	{"auditor", "record", "search the record, and check that it is whole",
		"    coffer log --client acme --since yesterday\n"
		"    coffer log --user alice --path '/orders/*'\n"
		"    coffer log verify\n"
		"Offline, on a copy, with a key that was kept off the host:\n"
		"    coffer log verify --db ledger.db --pubkey coffer.pub\n"
		"Months that are over lie in files of their own (copy the folder `archive` with ledger.db):\n"
		"    coffer log archive --list\n"},
	{"auditor", "report", "give a client what he may ask for",
		"Who used his data for which purpose, disclosures, retention, certificates; as a page, and signed for machines:\n"
		"    coffer report acme --from 2026-01-01 --html acme.html --signed acme.json\n"
		"He checks it without you, with the key that he got from you before (coffer public-key):\n"
		"    coffer report verify acme.json --pubkey coffer.pub\n"},
	{"auditor", "proof", "check a certificate of destruction",
		"    coffer certificate show acme.json\n"
		"    coffer certificate verify acme.json --pubkey coffer.pub\n"},
	{0},
};
