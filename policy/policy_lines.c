#include "policy/policy_lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/scope.h"

struct policy_lines {
	yaml_document_t document;
};

static unsigned line_of(const yaml_node_t *n)
{
	return (unsigned)n->start_mark.line + 1;
}

static bool is_text(const yaml_node_t *n, const char *text)
{
	return n && n->type == YAML_SCALAR_NODE && n->data.scalar.length == strlen(text) &&
	       memcmp(n->data.scalar.value, text, n->data.scalar.length) == 0;
}

static yaml_node_t *node(const struct policy_lines *l, int index)
{
	return yaml_document_get_node((yaml_document_t *)&l->document, index);
}

static yaml_node_t *value_of(const struct policy_lines *l, const yaml_node_t *mapping, const char *key)
{
	if (!mapping || mapping->type != YAML_MAPPING_NODE)
		return NULL;
	for (yaml_node_pair_t *p = mapping->data.mapping.pairs.start; p < mapping->data.mapping.pairs.top;
		p++)
		if (is_text(node(l, p->key), key))
			return node(l, p->value);
	return NULL;
}

static yaml_node_t *entry_of(const struct policy_lines *l, const yaml_node_t *list, size_t index)
{
	if (!list || list->type != YAML_SEQUENCE_NODE ||
		index >= (size_t)(list->data.sequence.items.top - list->data.sequence.items.start))
		return NULL;
	return node(l, list->data.sequence.items.start[index]);
}

unsigned policy_lines_at(const struct policy_lines *l, const char *list, size_t index, const char *key)
{
	const yaml_node_t *at = value_of(l, node(l, 1), list), *next;
	unsigned line = at ? line_of(at) : 0;

	next = entry_of(l, at, index);
	if (!next)
		return line;
	at = key ? value_of(l, next, key) : NULL;
	return line_of(at ? at : next);
}

unsigned policy_lines_at_deep(const struct policy_lines *l, const char *list, size_t index,
	const char *sublist, size_t subindex, const char *key)
{
	const yaml_node_t *entry = entry_of(l, value_of(l, node(l, 1), list), index);
	const yaml_node_t *sub = entry_of(l, value_of(l, entry, sublist), subindex), *at;

	if (!sub)
		return policy_lines_at(l, list, index, sublist);
	at = key ? value_of(l, sub, key) : NULL;
	return line_of(at ? at : sub);
}

unsigned policy_lines_key(const struct policy_lines *l, const char *key, unsigned from)
{
	unsigned best = 0;

	for (const yaml_node_t *m = l->document.nodes.start; m < l->document.nodes.top; m++) {
		if (m->type != YAML_MAPPING_NODE)
			continue;
		for (yaml_node_pair_t *p = m->data.mapping.pairs.start; p < m->data.mapping.pairs.top; p++) {
			const yaml_node_t *k = node(l, p->key);

			if (is_text(k, key) && line_of(k) >= from && (best == 0 || line_of(k) < best))
				best = line_of(k);
		}
	}
	return best;
}

static int refuse_double_keys(const struct policy_lines *l, struct policy_error *err)
{
	for (const yaml_node_t *m = l->document.nodes.start; m < l->document.nodes.top; m++) {
		if (m->type != YAML_MAPPING_NODE)
			continue;
		for (yaml_node_pair_t *p = m->data.mapping.pairs.start; p < m->data.mapping.pairs.top; p++) {
			const yaml_node_t *k = node(l, p->key);
			char key[64];

			if (!k || k->type != YAML_SCALAR_NODE || k->data.scalar.length >= sizeof(key))
				continue; /* no key of ours: the schema refuses it */
			memcpy(key, k->data.scalar.value, k->data.scalar.length);
			key[k->data.scalar.length] = '\0';
			if (value_of(l, m, key) == node(l, p->value))
				continue;
			err->line = line_of(k);
			snprintf(err->text, sizeof(err->text),
				"\"%s\" stands here for the second time: remove one", key);
			return -EINVAL;
		}
	}
	return 0;
}

static int refuse_syntax(const yaml_parser_t *p, struct policy_error *err)
{
	err->line = (unsigned)(p->problem_mark.line ? p->problem_mark.line : p->context_mark.line) + 1;
	snprintf(err->text, sizeof(err->text), "this is not YAML: %s",
		p->problem ? p->problem : "it cannot be read");
	return -EINVAL;
}

static int refuse_second_document(yaml_parser_t *p, struct policy_error *err)
{
	yaml_document_t next;
	yaml_node_t *root;
	int r = 0;

	if (!yaml_parser_load(p, &next))
		return refuse_syntax(p, err);
	root = yaml_document_get_root_node(&next);
	if (root) {
		err->line = line_of(root);
		snprintf(err->text, sizeof(err->text), "a second document begins here: a policy is one");
		r = -EINVAL;
	}
	yaml_document_delete(&next);
	return r;
}

int policy_lines_new(const char *text, size_t n, struct policy_lines **ret, struct policy_error *err)
{
	struct policy_lines *l = calloc(1, sizeof(*l));
	yaml_parser_t parser;
	int r = 0;

	if (!l || !yaml_parser_initialize(&parser)) {
		free(l);
		return -ENOMEM;
	}
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
	if (!yaml_parser_load(&parser, &l->document)) {
		r = refuse_syntax(&parser, err);
		yaml_parser_delete(&parser);
		free(l);
		return r;
	}
	if (!yaml_document_get_root_node(&l->document)) {
		snprintf(err->text, sizeof(err->text), "the policy is empty");
		r = -EINVAL;
	}
	if (r == 0)
		r = refuse_second_document(&parser, err);
	if (r == 0)
		r = refuse_double_keys(l, err);
	yaml_parser_delete(&parser);
	if (r < 0) {
		policy_lines_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

void policy_lines_free(struct policy_lines *l)
{
	if (!l)
		return;
	yaml_document_delete(&l->document);
	free(l);
}
