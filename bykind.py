import sys,random; sys.path.insert(0,'/work/w2')
import torch
from mosa.world import training
from mosa.world.training import Architecture
from mosa.world.texts import KINDS
from safetensors.torch import load_file
if 'AGE' in __import__('os').environ:
    v=training.vocabulary; training.vocabulary=lambda: v()|{'age'}
arch=Architecture(hidden_size=128,layers=4,heads=4,intermediate_size=448,embedding_std=1.0,weight_std=0.05,causal=False,seed=0)
tok=training.build_tokenizer(); model=training.new_model(arch,tok,0); model.load_state_dict(load_file(sys.argv[1]+'/model.safetensors')); model.eval()
torch.set_num_threads(1)
for k in sys.argv[2:]:
    ids,att,w=training.batch(tok,[k]*200,random.Random(3)); x=ids.clone(); x[:,w:]=tok.mask_token_id
    with torch.no_grad(): lg=model(input_ids=x,attention_mask=att).logits
    ok=(lg[:,w:].argmax(-1)==ids[:,w:]); r=ids[:,w:]!=tok.eos_token_id
    print(k,'word %.3f'%(ok&r).sum().div(r.sum()).item(),'all %.3f'%((ok|~r).all(1).float().mean().item()))
    if k=='step':
        a=torch.tensor([' '.join(tok.decode(i[:w]).split()).count('for the') and len(tok.decode(i[:w]).split()) for i in ids])
        for n in a.unique(): 
            m=a==n; print('  len',n.item(),'word %.3f'%((ok&r)[m].sum()/r[m].sum()).item())
