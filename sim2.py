import numpy as np
from itertools import combinations
from scipy.stats import t as T
def V_of(y,cl,mode):
    n=len(y); d=y-y.mean(); V=0; singles=[];G0=[]
    D=range(len(cl))
    for r in range(1,len(cl)+1):
        for S in combinations(D,r):
            key=np.zeros(n,int)
            for s in S: key=key*1000+cl[s]
            _,inv=np.unique(key,return_inverse=True); G=inv.max()+1
            v=(np.bincount(inv,d)**2).sum()/n**2*G/max(G-1,1); V+=(-1)**(r+1)*v
            if r==1: singles.append(v);G0.append(G)
    iid=d.var()/(n-1); df=min(G0)-1
    if mode=='max3': V=max(V,iid,*singles)
    if mode=='maxiid': V=max(V,iid)
    if mode=='pos': V=V if V>0 else iid
    if mode=='half': V=max(V,iid/2)
    return V,df
def wil(p,ne,z):
    c=(p+z*z/2/ne)/(1+z*z/ne); h=z*np.sqrt(p*(1-p)/ne+z*z/4/ne**2)/(1+z*z/ne); return c-h,c+h
rng=np.random.default_rng(1)
def sim(n,N,W,mu,sn,sw,reps=500):
    z=rng.normal(size=(200000,2)); truth=(1/(1+np.exp(-(mu+sn*z[:,0]+sw*z[:,1])))).mean()
    c={}
    for _ in range(reps):
        a=rng.normal(size=N)*sn;b=rng.normal(size=W)*sw
        i=np.arange(n)%N; j=(np.arange(n)//N+i)%W
        y=(rng.random(n)<1/(1+np.exp(-(mu+a[i]+b[j])))).astype(float); p=y.mean()
        for m in ('max3','maxiid','pos'):
            V,df=V_of(y,(i,j),m); ne=n if p in (0,1) else min(n,p*(1-p)/V) if m!='pos' else p*(1-p)/V
            for nm,q in (('t',T.ppf(.975,df)),('z',1.96)):
                lo,hi=wil(p,ne,q); lo=0 if p==0 else lo; hi=1 if p==1 else hi
                c[m+nm]=c.get(m+nm,0)+(lo<=truth<=hi)
    print(n,N,W,s,'truth %.3f'%truth,{k:round(v/reps,3) for k,v in c.items()},flush=True)
for n in (48,96,240):
    for mu in (-3.,-1,0.,2.):
        for s in (0.,.5,1.): sim(n,24,16,mu,s,s)
